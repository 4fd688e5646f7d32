#!/bin/sh
# Makes waves.ts, the clip behind the source `test-waves` (crates/media/src/testcard.rs).
#
#   ./make-waves.sh [OUTPUT]        default: waves.ts beside this script
#
# Needs ffmpeg 5.1 or later with libx264. The clip has to loop without a seam: 240 pictures at 30/s, of waves whose
# periods divide 8 seconds. Pictures come in closed groups of one second.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
output=${1:-$here/waves.ts}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

slow="sin(2*PI*(X/160-T/4)+1.5*sin(2*PI*(Y/240+T/8)))"
fast="sin(2*PI*(X/70+Y/90-T/2))"
ffmpeg -hide_banner -loglevel error -nostdin -y -bitexact \
    -f lavfi -i "nullsrc=size=480x270:rate=30:duration=8" \
    -vf "geq=lum='100+0.25*Y+38*$slow+16*$fast':cb='150-10*$slow':cr='96-8*$fast',format=yuv420p" \
    -c:v libx264 -profile:v high -preset veryslow -tune animation -crf 27 -threads 1 -bf 2 -b_strategy 0 \
    -x264-params "keyint=30:min-keyint=30:scenecut=0:open-gop=0:b-pyramid=none:aud=1:repeat-headers=1:rc-lookahead=30" \
    -muxdelay 0 -muxpreload 0 -f mpegts "$work/waves.ts"

frames=$(ffprobe -loglevel error -count_packets -select_streams v \
    -show_entries stream=nb_read_packets -of csv=p=0 "$work/waves.ts" | head -n 1 | tr -dc 0-9)
[ "$frames" = 240 ] || { echo "$frames frames, not 240" >&2; exit 1; }
mv "$work/waves.ts" "$output"
echo "$output: $(wc -c < "$output") bytes"
