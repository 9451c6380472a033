// SPDX-License-Identifier: Apache-2.0
// The sink that encodes: to a file, a stream on the network, or standard output.
#ifndef L2D_VIDEO_IO_WRITER_H
#define L2D_VIDEO_IO_WRITER_H

#include "video_io/sink.h"

/**
 * Open an encoder and a container, and write the container's header.
 * target   a file (container by extension), a URL (rtmp:// as flv, srt://, udp://, tcp:// and
 *          rtp:// as mpegts, rtsp:// as rtsp), a loopback camera (/dev/videoN), or "-": standard
 *          output, as Y4M. params->format overrides.
 * Defaults: H.264 with libx264, CRF 18, preset medium (veryfast and no delay for network streams),
 * yuv420p, tags from params; VP9 for .webm; otherwise the container's own codec. MP4 has its index
 * at the front.
 *
 * Time: params' time base goes to the encoder and, where it can choose one, the container (MP4's
 * timescale), so pts come out as they went in; Matroska rounds to milliseconds, Y4M has none. With
 * fps_num, frames are repeated and dropped to a constant rate and counted.
 *
 * Sound: copied where the container takes the codec, otherwise encoded as AAC, Opus or what it
 * takes; left out with a warning where there is no way. A packet is held back until the frames
 * written have reached its time, so that finish can still cut it.
 *
 * Live (params->live, and to some degree every network stream): settings that keep up, a key frame
 * every 2 s; MP4 in fragments, so that what has been written can be played after a crash; sound
 * older than the first frame is left out; packets leave at once; HLS keeps its last segments only;
 * opening, writing and finishing give up with L2D_EIO when a network takes nothing for 10 s, also
 * for an output that joins.
 *
 * Regular files are written as NAME.part and take their name in finish, so NAME is never half a
 * video; destroy without finish removes NAME.part. Two writers of one name are refused, and
 * without overwrite a NAME.part that an earlier one left. A symbolic link is followed. Devices and
 * FIFOs are written directly. Of numbered pictures one that cannot be written whole is removed.
 * Writing to a closed pipe is an error only if the program ignores SIGPIPE; the end of a pipe's
 * reader is L2D_ECLOSED, that of a network's L2D_EIO.
 * Errors: see l2d_sink_open.
 */
int l2d_writer_open(struct l2d_sink **out, const char *target, const struct l2d_sink_params *params,
                    struct l2d_error *err);

/** A target without "file:", as FFmpeg has it, behind which is a name; part of it. Any thread. */
const char *l2d_writer_path(const char *target);

#endif
