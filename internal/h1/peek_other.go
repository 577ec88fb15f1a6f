//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package h1

import "net"

// peeker returns what tells whether a connection is open and silent. Sockets cannot be looked at here: one that the other side has
// closed is found out by the request that fails.
func peeker(c net.Conn) func() bool {
	return func() bool { return silent(c) }
}
