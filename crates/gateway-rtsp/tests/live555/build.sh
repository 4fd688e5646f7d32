#!/bin/sh
# Builds the live555 player of the tests: build.sh PROGRAM. Nothing of live555 is in this repository: its source comes
# from the package `liblivemedia` by pip, is checked, and is built beside PROGRAM. One build at a time.
set -eu
program=$1
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$(dirname "$program")"
exec 9> "$program.lock"
flock 9
[ -x "$program" ] && [ "$program" -nt "$here/player.cpp" ] && exit 0
work=$program.build
if [ ! -f "$work/live555.a" ]; then
  rm -rf "$work" && mkdir -p "$work" && cd "$work"
  pip3 download -q --no-deps --no-binary :all: liblivemedia==1.0.5 >&2
  echo "564f65501ea5e823e5c53b1847ce3f41bd7b71ee2e9f3ba154a7e955817dfb48  liblivemedia-1.0.5.tar.gz" | sha256sum -c - >&2
  tar xzf liblivemedia-1.0.5.tar.gz --strip-components=1
  ls liveMedia/*.cpp liveMedia/*.c groupsock/*.cpp groupsock/*.c UsageEnvironment/*.cpp BasicUsageEnvironment/*.cpp 2> /dev/null |
    xargs -P "$(nproc)" -I SOURCE sh -c '
      case SOURCE in
        *.c) language="-x c -std=gnu89" ;;
        *) language="-std=c++20" ;;
      esac
      g++ $language -O1 -w -DSOCKLEN_T=socklen_t -D_LARGEFILE_SOURCE=1 -D_FILE_OFFSET_BITS=64 -DNO_OPENSSL=1 \
        -DNO_STD_LIB=1 -IliveMedia/include -Igroupsock/include -IUsageEnvironment/include \
        -IBasicUsageEnvironment/include -c SOURCE -o "$(echo SOURCE | tr / -).o"'
  ar crs live555.tmp ./*.o && rm -f ./*.o && mv live555.tmp live555.a
fi
cd "$work"
g++ -O1 -w -std=c++20 -DNO_OPENSSL=1 -DNO_STD_LIB=1 -IliveMedia/include -Igroupsock/include -IUsageEnvironment/include \
  -IBasicUsageEnvironment/include "$here/player.cpp" live555.a -o "$program.new"
mv "$program.new" "$program"
