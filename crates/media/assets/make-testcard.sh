#!/bin/sh
# Makes testcard.ts, the clip behind the built-in test card (crates/media/src/testcard.rs).
#
#   ./make-testcard.sh [OUTPUT]        default: testcard.ts beside this script
#
# Needs ffmpeg 5.1 or later with libx264, and DejaVu Sans Mono (Debian: apt install ffmpeg fonts-dejavu-core).
#
# The clip has to loop without a seam, so both tracks last exactly 8 seconds:
#   240 pictures at 30/s, and 375 AAC frames of 1024 samples at 48 kHz.
# Pictures come in closed groups of one second with B-frames inside, so that pts differs from dts.
# Sound repeats every second. It is encoded for three times 8 seconds and the frames of the middle 8 are
# kept: an encoder fades in, and its frames overlap; taken from the middle, the last frame joins the first.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
output=${1:-$here/testcard.ts}
font=${FONT:-/usr/share/fonts/truetype/dejavu/DejaVuSansMono-Bold.ttf}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

[ -r "$font" ] || { echo "no font at $font: install fonts-dejavu-core, or set FONT" >&2; exit 1; }

run() { ffmpeg -hide_banner -loglevel error -nostdin -y -bitexact "$@"; }

text="fontfile=$font:fontcolor=white:box=1:boxcolor=black:boxborderw=8:x=(w-tw)/2"
run -f lavfi -i "smptehdbars=size=640x360:rate=30:duration=8" \
    -f lavfi -i "color=color=white:size=16x24:rate=30:duration=8" \
    -filter_complex "[0]drawtext=$text:y=40:fontsize=36:text='LEVADA',
        drawtext=$text:y=120:fontsize=56:text='%{pts\:hms}',
        drawtext=$text:y=206:fontsize=28:text='frame %{eif\:n\:d\:3} of 240'[card];
        [card][1]overlay=x='mod(n,30)*(W-w)/29':y=H-h,format=yuv420p" \
    -c:v libx264 -profile:v high -preset veryslow -tune animation -crf 24 -threads 1 \
    -bf 2 -b_strategy 0 \
    -x264-params "keyint=30:min-keyint=30:direct=spatial:scenecut=0:open-gop=0:b-pyramid=none:aud=1:repeat-headers=1:rc-lookahead=30" \
    "$work/video.mp4"

# A quiet hum all the time, a beep in the first tenth of each second; every frequency is a whole number of hertz.
run -f lavfi -i "aevalsrc='0.02*sin(2*PI*110*t)+0.15*sin(2*PI*1000*t)*lt(mod(t,1),0.1):s=48000:c=stereo:d=25'" \
    -c:a aac -b:a 64k "$work/long.aac"
# 376 = one frame of encoder delay and the first 8 seconds.
run -i "$work/long.aac" -c:a copy -bsf:a "noise=drop=lt(n\,376)" -frames:a 375 "$work/audio.aac"

run -i "$work/video.mp4" -i "$work/audio.aac" -map 0:v -map 1:a -c copy \
    -metadata:s:a:0 language=zxx -muxdelay 0 -muxpreload 0 -f mpegts "$work/testcard.ts"

for pair in v:240 a:375; do
    frames=$(ffprobe -loglevel error -count_packets -select_streams "${pair%%:*}" \
        -show_entries stream=nb_read_packets -of csv=p=0 "$work/testcard.ts" | head -n 1 | tr -dc 0-9)
    [ "$frames" = "${pair##*:}" ] || { echo "${pair%%:*}: $frames frames, not ${pair##*:}" >&2; exit 1; }
done
mv "$work/testcard.ts" "$output"
echo "$output: $(wc -c < "$output") bytes"
