"""GStreamer's RTSP server with one film, for the laboratory: gst_server.py FILE PORT

Not Levada's. It says "client ADDRESS" on standard output for each connection that comes, "closed ADDRESS" for each that
goes, and ends when it is killed.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

file, port = sys.argv[1:]
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_service(port)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    f"( filesrc location={file} ! qtdemux name=film "
    "film.video_0 ! queue ! h264parse config-interval=-1 ! rtph264pay name=pay0 pt=96 "
    "film.audio_0 ! queue ! aacparse ! rtpmp4gpay name=pay1 pt=97 )"
)
server.get_mount_points().add_factory("/x", factory)


def connected(_, client):
    ip = client.get_connection().get_ip()
    print("client", ip, flush=True)
    client.connect("closed", lambda _: print("closed", ip, flush=True))


server.connect("client-connected", connected)
server.attach(None)
print("listens", flush=True)
GLib.MainLoop().run()
