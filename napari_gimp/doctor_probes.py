"""What `doctor` runs in processes of its own, as text: Qt may crash there.

Each probe prints one line and exits with 0, or ends with an error whose last line
is the reason.
"""

QT = """
from qtpy import API_NAME, QT_VERSION
from qtpy.QtWidgets import QApplication
app = QApplication([])
print(f"{API_NAME}, Qt {QT_VERSION}")
"""

XCB = """
import ctypes, sys
from pathlib import Path
from qtpy.QtCore import QLibraryInfo
import qtpy.QtGui
place = getattr(QLibraryInfo, "path", None) or QLibraryInfo.location
plugin = Path(place(QLibraryInfo.LibraryPath.PluginsPath)) / "platforms/libqxcb.so"
if not plugin.exists():
    sys.exit(f"Qt's X11 plugin is not at {plugin}")
try:
    ctypes.CDLL(str(plugin))
except OSError as error:
    sys.exit(f"Qt's X11 plugin does not load: {error}")
print("Qt's X11 plugin loads")
"""

OPENGL = """
import sys
from qtpy.QtGui import QGuiApplication, QOffscreenSurface, QOpenGLContext
app = QGuiApplication([])
surface = QOffscreenSurface()
surface.create()
context = QOpenGLContext()
if not (context.create() and context.makeCurrent(surface)):
    sys.exit("no OpenGL context can be made")
functions = context.functions()
GL_RENDERER, GL_VERSION = 0x1F01, 0x1F02
print(functions.glGetString(GL_VERSION), "on", functions.glGetString(GL_RENDERER))
context.doneCurrent()
"""
