package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// localPeer is the user who has the other end of a connection between two programs of this
// machine, by its address there; false where the system does not tell. Linux does.
func localPeer(address string) (uid int, ok bool) {
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return 0, false
	}
	peer, err := netip.ParseAddrPort(address)
	if err != nil || !peer.Addr().Is4() {
		return 0, false
	}
	return socketUser(string(table), peer)
}

// socketUser finds the owner of the open socket at an address in the text of /proc/net/tcp
// (proc_net_tcp.txt in Linux's documentation). Sockets that are closing have none.
func socketUser(table string, local netip.AddrPort) (uid int, ok bool) {
	const established = "01"
	ip := local.Addr().As4()
	want := fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip[:]), local.Port())
	for line := range strings.Lines(table) { // slot local remote state queues timer retransmits uid
		if f := strings.Fields(line); len(f) > 7 && f[1] == want && f[3] == established {
			uid, err := strconv.Atoi(f[7])
			return uid, err == nil
		}
	}
	return 0, false
}
