package main

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
)

// procNetTCP is of a machine with little endians, as all are that tests run on.
const procNetTCP = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:4E21 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1 0000000000000000 100 0 0 10 0
   1: 0100007F:C001 0100007F:4E21 01 00000000:00000000 00:00000000 00000000  1001        0 2 1 0000000000000000 20 4 30 10 -1
   2: 0100007F:C002 0100007F:4E21 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0000000000000000
`

func TestSocketUser(t *testing.T) {
	for address, want := range map[string]int{"127.0.0.1:49153": 1001, "127.0.0.1:49154": -1, "127.0.0.1:20001": -1, "127.0.0.2:49153": -1} {
		uid, ok := socketUser(procNetTCP, netip.MustParseAddrPort(address))
		if ok != (want >= 0) || ok && uid != want {
			t.Errorf("%s: user %d, %v", address, uid, ok)
		}
	}
}

// This machine's table is read.
func TestLocalPeer(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the system does not tell")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if uid, ok := localPeer(conn.LocalAddr().String()); !ok || uid != os.Geteuid() {
		t.Errorf("user %d, %v", uid, ok)
	}
	if _, ok := localPeer(strings.Replace(listener.Addr().String(), "127.0.0.1", "127.0.0.2", 1)); ok {
		t.Error("a listener has a user")
	}
}
