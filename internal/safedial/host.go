package safedial

import (
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// CheckHost judges the host of a URL, with or without brackets, before anything is resolved. It refuses literal addresses that
// [Check] refuses, literal addresses in unusual spellings (resolvers disagree on what they mean), names that mean the local
// machine, and what is no host at all. Any other name passes: its addresses are judged when they are dialled.
func CheckHost(host string) error {
	if reason := hostRefusal(host); reason != "" {
		return &Error{host, reason}
	}
	return nil
}

func hostRefusal(host string) string {
	if host == "" {
		return "empty"
	}
	if len(host) > 255 {
		return "too long"
	}
	if host[0] == '[' {
		return bracketed(host)
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return refusal(addr)
	}
	if strings.Contains(host, ":") {
		return "not an address"
	}
	name, ok := fold(host)
	if !ok {
		return "not a host name"
	}
	name = strings.TrimRight(name, ".")
	if name == "" {
		return "not a host name"
	}
	if reason, ok := numeric(name); ok {
		return reason
	}
	if local(name) {
		return "the local machine"
	}
	return ""
}

// bracketed judges "[…]", which holds an IPv6 address and nothing else.
func bracketed(host string) string {
	if host[len(host)-1] != ']' {
		return "not an address"
	}
	addr, err := netip.ParseAddr(host[1 : len(host)-1])
	if err != nil || !addr.Is6() {
		return "not an address"
	}
	return refusal(addr)
}

// fold brings a host name to lower-case ASCII where it can, as browsers and net/http do before resolving: full-width forms
// and ideographic full stops count as their ASCII counterparts. Other letters stay. It reports false for
// what no name contains, percent signs among it.
func fold(host string) (string, bool) {
	if !utf8.ValidString(host) {
		return "", false
	}
	var b strings.Builder
	for _, r := range host {
		switch {
		case r >= 0xff01 && r <= 0xff5e:
			r -= 0xff01 - '!'
		case r == 0x3002 || r == 0xff61:
			r = '.'
		}
		switch {
		case 'A' <= r && r <= 'Z':
			r += 'a' - 'A'
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '.', r == '-', r == '_':
		case r < utf8.RuneSelf, !unicode.IsLetter(r) && !unicode.IsMark(r): // ① and ١ would turn into ASCII digits on the way to the resolver
			return "", false
		}
		b.WriteRune(r)
	}
	return b.String(), true
}

// numeric judges a name whose last label is a number, which no real name has: it is an IPv4 address in one of the spellings
// of inet_aton (decimal, octal, hexadecimal; one to four parts), or nothing. It reports false for other names.
func numeric(name string) (string, bool) {
	parts := strings.Split(name, ".")
	last := parts[len(parts)-1]
	if !isNumber(last) {
		return "", false
	}
	addr, ok := inetAton(parts)
	if !ok {
		return "not an address", true
	}
	if reason := refusal(addr); reason != "" {
		return "a spelling of " + addr.String() + ", which is " + reason, true
	}
	return "an unusual spelling of " + addr.String(), true
}

func isNumber(label string) bool {
	digits, hex := strings.CutPrefix(label, "0x")
	if !hex && digits == "" {
		return false
	}
	for i := range len(digits) {
		c := digits[i]
		if (c < '0' || c > '9') && (!hex || c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// inetAton reads one to four numbers as the C function does: the last one fills all bytes that are left.
func inetAton(parts []string) (netip.Addr, bool) {
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var v uint64
	for i, part := range parts {
		n, ok := atonPart(part)
		if !ok {
			return netip.Addr{}, false
		}
		if i < len(parts)-1 {
			if n > 255 {
				return netip.Addr{}, false
			}
			v |= n << (24 - 8*i)
			continue
		}
		if n >= 1<<(32-8*i) {
			return netip.Addr{}, false
		}
		v |= n
	}
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), true
}

func atonPart(s string) (uint64, bool) {
	if s == "0x" { // read as 0 by browsers
		return 0, true
	}
	base := 10
	switch {
	case strings.HasPrefix(s, "0x"):
		s, base = s[2:], 16
	case len(s) > 1 && s[0] == '0':
		base = 8
	}
	n, err := strconv.ParseUint(s, base, 33)
	return n, err == nil
}

// local reports whether the name means the machine itself: RFC 6761, and what /etc/hosts of common systems add.
func local(name string) bool {
	switch name {
	case "localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback",
		"localhost4.localdomain4", "localhost6.localdomain6":
		return true
	}
	return strings.HasSuffix(name, ".localhost")
}
