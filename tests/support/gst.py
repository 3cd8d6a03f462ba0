"""Sources for the camera tests: an RTSP server, or a short video file.

    gst.py rtsp PORT [METHOD USER PASSWORD]
                            serves rtsp://127.0.0.1:PORT/test until killed, over TCP and UDP; METHOD is basic or digest.
                            SIGUSR1 holds the pictures up while the connection stays, SIGUSR2 lets them go on
    gst.py video FILE       writes an AVI of 60 frames, 320x240, 20 frames a second
"""

import signal
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

Gst.init(None)


def guard(server, factory, method, user, password):
    """Lets only this user in."""
    gi.require_version("GstRtsp", "1.0")
    from gi.repository import GstRtsp, GstRtspServer

    auth, token = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    if method == "basic":
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    else:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, password, token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    for permission in ("media.factory.access", "media.factory.construct"):
        permissions.add_permission_for_role("user", permission, True)
    factory.set_permissions(permissions)


if sys.argv[1] == "rtsp":
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GstRtspServer

    server = GstRtspServer.RTSPServer(service=sys.argv[2], address="127.0.0.1")
    factory = GstRtspServer.RTSPMediaFactory(shared=True)
    factory.set_launch(
        "( videotestsrc is-live=true pattern=smpte ! video/x-raw,format=I420,width=320,height=240,framerate=20/1"
        " ! valve name=valve drop=false ! rtpvrawpay name=pay0 pt=96 )"
    )
    if len(sys.argv) > 3:
        guard(server, factory, *sys.argv[3:6])
    valves, shut = [], [False]

    def configured(_factory, media):
        valves[:] = [media.get_element().get_by_name("valve")]
        valves[0].set_property("drop", shut[0])

    def hold(drop):
        shut[0] = drop
        for valve in valves:
            valve.set_property("drop", drop)
        return GLib.SOURCE_CONTINUE

    factory.connect("media-configure", configured)
    GLib.unix_signal_add(GLib.PRIORITY_HIGH, signal.SIGUSR1, hold, True)
    GLib.unix_signal_add(GLib.PRIORITY_HIGH, signal.SIGUSR2, hold, False)
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
