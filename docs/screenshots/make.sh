#!/bin/bash
# Makes the screenshots in this folder again: farport on a real terminal, xterm, on a screen
# of its own. It needs Go and the Debian packages xvfb, xterm, imagemagick and
# fonts-dejavu-core, and leaves nothing behind.
#
#	docs/screenshots/make.sh
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$work"' EXIT

(cd ../.. && CGO_ENABLED=0 go build -o "$work/farport" ./cmd/farport)
export PATH=$work:$PATH HOME=$work XDG_CONFIG_HOME=$work/config FARPORT_DATA_DIR=$work/hub
export DISPLAY=:97
port=27443

Xvfb $DISPLAY -screen 0 1000x460x24 -nolisten tcp -noreset >"$work/xvfb.log" 2>&1 &
farport serve --listen 127.0.0.1:$port --mqtt-listen off >"$work/hub.log" 2>&1 &
until grep -q '^farport: hub ready' "$work/hub.log"; do sleep 0.2; done
for id in pi-1 kiosk-7 gate-north; do farport device create $id >/dev/null 2>&1; done
farport device update kiosk-7 --disable >/dev/null 2>&1
(umask 077 && farport device connection-string pi-1 >"$work/pi-1.conn")

# Something to talk to on the device: it takes all it gets, and gives nothing.
cat >"$work/sink.go" <<'END'
package main

import (
	"io"
	"net"
)

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:27022")
	if err != nil {
		panic(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			io.Copy(io.Discard, c)
			c.Close()
		}()
	}
}
END
go build -o "$work/sink" "$work/sink.go"
"$work/sink" &
farport device-proxy --connection-string-file "$work/pi-1.conn" --target 127.0.0.1:27022 >"$work/device.log" 2>&1 &
until grep -q connected "$work/device.log"; do sleep 0.2; done

# shot NAME LINES COMMAND...: what a screen of so many lines shows a while after the commands
# were typed, $after seconds unless that is 6. The last may go on; it is ended with the
# terminal.
shot() {
	local name=$1 lines=$2
	shift 2
	{
		for line in "$@"; do
			printf 'echo %q; %s\n' "\$ $line" "$line"
		done
		echo 'sleep 60'
	} >"$work/$name.sh"
	xterm -fa 'DejaVu Sans Mono' -fs 11 -geometry 96x$lines+0+0 -bg '#101418' -fg '#d8dee9' -e bash "$work/$name.sh" &
	local terminal=$!
	sleep "${after:-6}"
	import -window root "$work/$name.png"
	convert "$work/$name.png[0]" -bordercolor black -trim +repage -strip "$name.png"
	kill $terminal
	wait $terminal 2>/dev/null || true
}

shot device-list 9 'farport device list' 'farport device show pi-1'
(sleep 3; timeout 6 cat /dev/zero >/dev/tcp/127.0.0.1/27122) 2>/dev/null &
shot service-proxy 5 'farport service-proxy -d pi-1 -L 27122=ssh -L 27123=rdp'
after=4 shot ssh 3 'farport ssh pi@gate-north'
shot doctor 21 'farport doctor pi-1' 'farport ping -c 2 pi-1'
ls -l ./*.png
