package netwatch

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"
)

// messages is room for what one read of the socket returns; the kernel sends no more
// than 8 KiB in one message here (rtnetlink(7), NLMSG_GOODSIZE).
const messages = 16 << 10

// groups are the kernel's announcements that Run listens to (rtnetlink(7)).
const groups = 1<<(syscall.RTNLGRP_LINK-1) |
	1<<(syscall.RTNLGRP_IPV4_IFADDR-1) | 1<<(syscall.RTNLGRP_IPV4_ROUTE-1) |
	1<<(syscall.RTNLGRP_IPV6_IFADDR-1) | 1<<(syscall.RTNLGRP_IPV6_ROUTE-1)

// listen takes what the kernel announces, until ctx ends. It returns false where the
// process may not listen.
func listen(ctx context.Context, wg *sync.WaitGroup, hints chan<- hint) bool {
	socket, err := openNetlink()
	if err != nil {
		return false
	}
	stop := context.AfterFunc(ctx, func() { socket.Close() }) // ends the read
	wg.Go(func() {
		defer stop()
		defer socket.Close()
		p := make([]byte, messages)
		for {
			n, err := socket.Read(p)
			lost := errors.Is(err, syscall.ENOBUFS) // more than the socket holds has come
			if err != nil && !lost {
				return // ctx has ended
			}
			select {
			case hints <- hint{sure: lost || hasRoute(p[:n])}:
			case <-ctx.Done():
				return
			}
		}
	})
	return true
}

// openNetlink returns a socket that gets the announcements.
func openNetlink() (*os.File, error) {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, syscall.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK, Groups: groups}); err != nil {
		_ = syscall.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return os.NewFile(uintptr(fd), "netlink"), nil // a non-blocking one is the poller's
}

// hasRoute reports whether a route has come or gone, which no snapshot shows.
func hasRoute(p []byte) bool {
	parsed, err := syscall.ParseNetlinkMessage(p)
	for _, m := range parsed {
		if t := m.Header.Type; t == syscall.RTM_NEWROUTE || t == syscall.RTM_DELROUTE {
			return true
		}
	}
	return err != nil // cut off: it may have been one
}
