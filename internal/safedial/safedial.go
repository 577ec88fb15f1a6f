// Package safedial keeps requests away from addresses that are not public: private, loopback, link-local, cloud metadata
// and all other special ranges, in every embedding. It checks the address that is dialled and not the name, which closes DNS
// rebinding and redirects in one place.
//
// What it cannot know: a NAT64 prefix of an operator's own, addresses that a network uses privately though they are public,
// and the host's own public address. A firewall remains in order.
package safedial

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
)

// ErrBlocked is the cause of every error of this package.
var ErrBlocked = errors.New("address is not public")

// Error says which address or host was refused, and why.
type Error struct {
	Host   string // as given: an address or a host name
	Reason string // completes "Host is …"
}

// Error is "host … is …", with the host quoted unless it is plain.
func (e *Error) Error() string { return "host " + shown(e.Host) + " is " + e.Reason }

// Unwrap gives [ErrBlocked].
func (e *Error) Unwrap() error { return ErrBlocked }

// Control is a [net.Dialer.Control] that refuses addresses that are not public. It runs after resolving and before
// connecting, for every address tried. It lets TCP through only.
func Control(network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return &Error{address, "not reached by TCP but by " + network}
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return &Error{address, "not an address and a port"}
	}
	return Check(ap.Addr())
}

// Check returns an [*Error] unless addr is a public unicast address.
//
// An IPv4-mapped IPv6 address is judged by the IPv4 address within, because that is what the system then dials. All other
// embeddings are refused as a whole, since a translator or tunnel of unknown rules stands behind them; ISATAP, which can sit in
// any prefix, is refused when the IPv4 address within is not public.
func Check(addr netip.Addr) error {
	if reason := refusal(addr); reason != "" {
		return &Error{addr.String(), reason}
	}
	return nil
}

// refusal says why addr is refused; "" when it is not.
func refusal(addr netip.Addr) string {
	if !addr.IsValid() {
		return "not an address"
	}
	if addr.Zone() != "" {
		return "bound to a zone"
	}
	addr = addr.Unmap()
	if addr.Is4() {
		return match(special4, addr)
	}
	if reason := match(special6, addr); reason != "" {
		return reason
	}
	if !global6.Contains(addr) {
		return "outside global unicast (RFC 4291)"
	}
	if v4, ok := isatap(addr); ok {
		if reason := match(special4, v4); reason != "" {
			return "ISATAP (RFC 5214) for " + v4.String() + ", which is " + reason
		}
	}
	return ""
}

// shown is the host as it can stand in a line of text.
func shown(host string) string {
	const most = 128
	cut := host[:min(len(host), most)]
	for i := range len(cut) {
		c := cut[i]
		plain := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(".:-_[]%", c) >= 0
		if !plain {
			return strconv.QuoteToASCII(cut)
		}
	}
	if cut == "" || len(cut) < len(host) {
		return strconv.Quote(cut)
	}
	return cut
}

func match(table []entry, addr netip.Addr) string {
	for i := range table {
		if table[i].prefix.Contains(addr) {
			return table[i].reason
		}
	}
	return ""
}

// isatap returns the IPv4 address that an ISATAP interface identifier (0000:5efe or 0200:5efe, then the address) tunnels to.
func isatap(addr netip.Addr) (netip.Addr, bool) {
	b := addr.As16()
	id := binary.BigEndian.Uint32(b[8:12])
	if id&^(1<<25) != 0x00005efe { // bit 25 is the universal/local bit
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte(b[12:])), true
}
