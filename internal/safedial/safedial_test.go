package safedial

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// registry is every row of the IANA special-purpose registries, written down again by hand and not taken from the table, with
// what the registries leave to others below.
var registry = []string{
	// IPv4
	"0.0.0.0/8", "0.0.0.0/32", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.0.0.0/29", "192.0.0.8/32", "192.0.0.9/32", "192.0.0.10/32", "192.0.0.170/32", "192.0.0.171/32",
	"192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.88.99.2/32", "192.168.0.0/16",
	"192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4", "255.255.255.255/32",
	// IPv6
	"::1/128", "::/128", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23",
	"2001::/32", "2001:1::1/128", "2001:1::2/128", "2001:1::3/128", "2001:2::/48", "2001:3::/32", "2001:4:112::/48", "2001:10::/28",
	"2001:20::/28", "2001:30::/28", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10",
	// elsewhere
	"224.0.0.0/4", "ff00::/8", "fec0::/10", "::/96", "::ffff:0:0:0/96", "3ffe::/16", "4000::/2", "8000::/1", "::/3",
	// metadata and platform addresses of clouds
	"169.254.169.254/32", "169.254.170.2/32", "169.254.170.23/32", "169.254.0.23/32", "100.100.100.200/32", "192.0.0.192/32",
	"168.63.129.16/32", "fd00:ec2::254/128", "fd00:ec2::23/128", "fd20:ce::254/128", "fd00:c1::a9fe:a9fe/128", "fd00:42::42/128",
	"fd00:a9fe:a9fe::1/128", "fe80::a9fe:a9fe/128",
}

// last is the last address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// within gives addresses of a prefix: both ends, their neighbours inside, and the middle.
func within(p netip.Prefix) []netip.Addr {
	first, end := p.Masked().Addr(), last(p)
	as := []netip.Addr{first, end}
	if p.IsSingleIP() {
		return as
	}
	mid := first.AsSlice()
	mid[p.Bits()/8] |= 1 << (7 - p.Bits()%8)
	m, _ := netip.AddrFromSlice(mid)
	return append(as, first.Next(), end.Prev(), m, m.Prev())
}

// embeddings are all the forms in which an IPv6 address can carry an IPv4 one, by name.
func embeddings(v4 netip.Addr) map[string]netip.Addr {
	b := v4.As4()
	put := func(prefix string, at int, flip bool) netip.Addr {
		a := netip.MustParseAddr(prefix).As16()
		for i := range 4 {
			a[at+i] = b[i]
			if flip {
				a[at+i] = ^b[i]
			}
		}
		return netip.AddrFrom16(a)
	}
	return map[string]netip.Addr{
		"mapped":             put("::ffff:0:0", 12, false),
		"compatible":         put("::", 12, false),
		"translated":         put("::ffff:0:0:0", 12, false),
		"NAT64":              put("64:ff9b::", 12, false),
		"local NAT64":        put("64:ff9b:1::", 12, false),
		"local NAT64 /48":    put("64:ff9b:1::", 6, false), // really at 48–63 and 72–87, still in the prefix
		"6to4":               put("2002::", 2, false),
		"6to4 with host":     put("2002::1:2:3", 2, false),
		"Teredo client":      put("2001:0:4136:e378::", 12, true),
		"Teredo server":      put("2001::", 4, false),
		"ISATAP":             put("2a00:1450:4001:830:0:5efe::", 12, false),
		"ISATAP, global bit": put("2a00:1450:4001:830:200:5efe::", 12, false),
		"ISATAP link-local":  put("fe80::5efe:0:0", 12, false),
	}
}

func wantBlocked(t *testing.T, what string, err error) {
	t.Helper()
	var e *Error
	if !errors.Is(err, ErrBlocked) || !errors.As(err, &e) || e.Reason == "" {
		t.Errorf("%s: got %v, want an *Error of ErrBlocked", what, err)
	}
}

func TestCheckRefusesEverySpecialRange(t *testing.T) {
	for _, text := range registry {
		for _, addr := range within(netip.MustParsePrefix(text)) {
			wantBlocked(t, text+": "+addr.String(), Check(addr))
			if !addr.Is4() {
				continue
			}
			for name, e := range embeddings(addr) {
				wantBlocked(t, text+": "+name+": "+e.String(), Check(e))
			}
		}
	}
}

// Every entry must be needed: an address of it that no other entry and no rule refuses, or a closer reason than theirs.
func TestTableHasReasons(t *testing.T) {
	for _, table := range [][]entry{special4, special6} {
		for i, e := range table {
			if e.prefix != e.prefix.Masked() {
				t.Errorf("%v has bits beyond its length", e.prefix)
			}
			if got := refusal(last(e.prefix)); got == "" || e.reason == "" {
				t.Errorf("%v: no reason", e.prefix)
			}
			for _, earlier := range table[:i] {
				if earlier.prefix.Bits() <= e.prefix.Bits() && earlier.prefix.Overlaps(e.prefix) {
					t.Errorf("%v can never match: %v stands before it", e.prefix, earlier.prefix)
				}
			}
		}
	}
}

func TestCheckPassesPublic(t *testing.T) {
	for _, text := range []string{
		"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
		"168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "191.255.255.255",
		"192.0.1.0", "192.0.3.0", "192.31.195.255", "192.31.197.0", "192.52.192.255", "192.52.194.0", "192.88.98.255", "192.88.100.0",
		"192.167.255.255", "192.169.0.0", "192.175.47.255", "192.175.49.0", "198.17.255.255", "198.20.0.0", "198.51.99.255",
		"198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255", "1.0.0.0",
		"::ffff:8.8.8.8",
		"2000::", "2001:200::", "2001:4860:4860::8888", "2001:db7:ffff::", "2001:db9::", "2003::1", "2606:4700:4700::1111",
		"2620:4f:7fff:ffff::", "2620:4f:8001::", "2a00:1450:4001:830::200e", "3ffd:ffff::", "3fff:1000::", "3fff:ffff::",
		"2a00:1450:4001:830:0:5efe:808:808", // ISATAP for a public address
		"2a00:1450:4001:830:1:5efe:a00:1",   // not ISATAP
	} {
		if err := Check(netip.MustParseAddr(text)); err != nil {
			t.Errorf("%s refused: %v", text, err)
		}
	}
}

func TestCheckOddities(t *testing.T) {
	wantBlocked(t, "zero Addr", Check(netip.Addr{}))
	wantBlocked(t, "zone", Check(netip.MustParseAddr("2606:4700:4700::1111%eth0")))
	wantBlocked(t, "zone on mapped", Check(netip.MustParseAddr("::ffff:8.8.8.8%eth0")))
	err := Check(netip.MustParseAddr("fe80::1%a\nb"))
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error breaks the line: %q", err)
	}
}

func TestErrorText(t *testing.T) {
	for addr, want := range map[string]string{
		"10.0.0.7":          "host 10.0.0.7 is private (RFC 1918)",
		"::ffff:127.0.0.1":  "host ::ffff:127.0.0.1 is loopback (RFC 1122)",
		"169.254.169.254":   "host 169.254.169.254 is a cloud metadata address",
		"2a00::5efe:a00:1":  "host 2a00::5efe:a00:1 is ISATAP (RFC 5214) for 10.0.0.1, which is private (RFC 1918)",
		"8000::":            "host 8000:: is outside global unicast (RFC 4291)",
		"2002:7f00:1::":     "host 2002:7f00:1:: is 6to4 (RFC 3056)",
		"64:ff9b::808:808":  "host 64:ff9b::808:808 is NAT64 (RFC 6052)",
		"fd00:ec2::254%eth": "host fd00:ec2::254%eth is bound to a zone",
	} {
		if got := Check(netip.MustParseAddr(addr)).Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestControl(t *testing.T) {
	for _, c := range []struct {
		network, address string
		ok               bool
	}{
		{"tcp4", "8.8.8.8:443", true},
		{"tcp6", "[2606:4700:4700::1111]:443", true},
		{"tcp4", "127.0.0.1:443", false},
		{"tcp6", "[::1]:80", false},
		{"tcp6", "[fe80::1%eth0]:80", false},
		{"tcp", "8.8.8.8:443", false},
		{"udp4", "8.8.8.8:443", false},
		{"unix", "/var/run/docker.sock", false},
		{"tcp4", "example.com:443", false},
		{"tcp4", "8.8.8.8", false},
		{"tcp4", "", false},
	} {
		if err := Control(c.network, c.address, nil); (err == nil) != c.ok {
			t.Errorf("Control(%s, %s) = %v", c.network, c.address, err)
		} else if err != nil {
			wantBlocked(t, c.address, err)
		}
	}
}

// The dialler must not connect at all: a listener on loopback sees nobody.
func TestControlOpensNoSocket(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan struct{}, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- struct{}{}
			c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	d := net.Dialer{Control: Control, Timeout: 5 * time.Second}
	for _, host := range []string{"127.0.0.1", "localhost", "0.0.0.0", "::ffff:127.0.0.1", "::1", "::", ""} {
		_, err := d.DialContext(context.Background(), "tcp", net.JoinHostPort(host, port))
		if host != "localhost" || err == nil { // a resolver may not know localhost; it must not connect either way
			wantBlocked(t, "dial "+host, err)
		}
	}
	// The listener works: without the guard it is reached, and this is the first to be.
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	<-accepted
	if len(accepted) != 0 {
		t.Error("a refused address was connected to")
	}
}

func FuzzCheck(f *testing.F) {
	for _, text := range registry {
		f.Add(last(netip.MustParsePrefix(text)).AsSlice())
	}
	f.Add([]byte{8, 8, 8, 8})
	f.Fuzz(func(t *testing.T, b []byte) {
		addr, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		err := Check(addr)
		special := false
		for _, text := range registry {
			p := netip.MustParsePrefix(text)
			special = special || p.Contains(addr.Unmap())
		}
		ip := net.IP(b)
		special = special || ip.IsPrivate() || ip.IsLoopback() || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLinkLocalUnicast()
		if special && err == nil {
			t.Errorf("%v is special and passes", addr)
		}
		if !special && err != nil && !strings.Contains(err.Error(), "ISATAP") {
			t.Errorf("%v is public and refused: %v", addr, err)
		}
		if addr.Is4() {
			for name, e := range embeddings(addr) {
				if err != nil && Check(e) == nil {
					t.Errorf("%v is refused, but passes as %s %v", addr, name, e)
				}
			}
		}
		if a16 := addr.As16(); addr.Is6() && err == nil {
			if n := binary.BigEndian.Uint32(a16[:4]); n>>29 != 1 && !addr.Is4In6() {
				t.Errorf("%v is outside 2000::/3 and passes", addr)
			}
		}
	})
}
