//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package h1

import (
	"net"
	"syscall"
)

// peeker returns what tells whether a connection is open and silent.
func peeker(c net.Conn) func() bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return func() bool { return silent(c) }
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return func() bool { return false }
	}
	quiet := false
	look := func(fd uintptr) bool {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK)
		quiet = err == syscall.EAGAIN
		return true
	}
	return func() bool {
		err := rc.Read(look)
		return err == nil && quiet
	}
}
