"""Sources for the camera tests: an RTSP server, or a short video file.

    gst.py rtsp PORT        serves rtsp://127.0.0.1:PORT/test until killed
    gst.py video FILE       writes an AVI of 60 frames, 320x240, 20 frames a second
"""

import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

Gst.init(None)
if sys.argv[1] == "rtsp":
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GstRtspServer

    server = GstRtspServer.RTSPServer(service=sys.argv[2], address="127.0.0.1")
    factory = GstRtspServer.RTSPMediaFactory(shared=True)
    factory.set_launch(
        "( videotestsrc is-live=true pattern=smpte ! video/x-raw,format=I420,width=320,height=240,framerate=20/1"
        " ! rtpvrawpay name=pay0 pt=96 )"
    )
    server.get_mount_points().add_factory("/test", factory)
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()
else:
    pipeline = Gst.parse_launch(
        "videotestsrc num-buffers=60 pattern=ball ! video/x-raw,width=320,height=240,framerate=20/1"
        f" ! jpegenc ! avimux ! filesink location={sys.argv[2]}"
    )
    pipeline.set_state(Gst.State.PLAYING)
    pipeline.get_bus().timed_pop_filtered(30 * Gst.SECOND, Gst.MessageType.EOS | Gst.MessageType.ERROR)
    pipeline.set_state(Gst.State.NULL)
