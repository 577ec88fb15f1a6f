package safedial

import (
	"fmt"
	"net/netip"
	"net/url"
	"testing"
)

func TestCheckHostRefuses(t *testing.T) {
	for _, host := range []string{
		// plain literals
		"127.0.0.1", "10.0.0.7", "169.254.169.254", "0.0.0.0", "255.255.255.255", "::1", "[::1]", "[::]", "fd00:ec2::254", "[::ffff:10.0.0.1]",
		"::ffff:7f00:1", "[64:ff9b::7f00:1]", "2002:7f00:1::", "[fe80::1%eth0]", "fe80::1%eth0", "[2606:4700:4700::1111%25eth0]",
		// spellings of inet_aton
		"2130706433", "017700000001", "0x7f000001", "0X7F000001", "0x7f.1", "127.1", "127.0.1", "0177.0.0.1", "0x7f.0x0.0x0.0x1",
		"127.000.000.001", "010.0.0.1", "0", "00", "0x", "0x0", "1", "127.0.0.0x1", "3232235777", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376",
		"00000000000000000177.0.0.1", "0x00000000000000007f.1", "134744072", "0x8080808", "8.8.2056", "010.010.010.010",
		// numbers that are no address
		"4294967296", "256.1.1.1", "1.2.3.4.5", "999999999999999999999", "1.2.3.256", "08.0.0.1", "127.0.0.1.5", "example.1", "a.b.0x1f", "1.16777216",
		// trailing dots
		"127.0.0.1.", "127.1.", "localhost.", "2130706433.", "127.0.0.1..", ".", "...",
		// brackets and what is no host
		"[127.0.0.1]", "[::1", "::1]", "[]", "[", "]", "[example.com]", "example.com:80", "1:2", ":80", "[::1]:80",
		"", " ", "a b", "exam\tple", "a\x00b", "a/b", `a\b`, "a@b", "user@10.0.0.1", "a?b", "a#b", "a,b", "*.example.com", "a\nb", "\xff\xfe",
		// percent-encoded
		"127%2e0%2e0%2e1", "%31%32%37.0.0.1", "localhos%74", "example%2ecom", "%6c", "%",
		// names of this machine
		"localhost", "LOCALHOST", "LocalHost", "foo.localhost", "a.b.LocalHost.", "localhost.localdomain", "ip6-localhost", "ip6-loopback", "localhost6",
		// full-width, circled, Arabic-Indic and mathematical digits, ideographic full stops
		"１２７.0.0.1", "127。0。0。1", "127｡0｡0｡1", "①②⑦.0.0.1", "١٢٧.0.0.1", "𝟏𝟐𝟕.0.0.1", "ｌｏｃａｌｈｏｓｔ", "０ｘ7f.1", "1²7.0.0.1",
		"local\u00adhost", "local\u200bhost", "ⓛocalhost",
	} {
		wantBlocked(t, fmt.Sprintf("%q", host), CheckHost(host))
	}
}

func TestCheckHostPasses(t *testing.T) {
	for _, host := range []string{
		"example.com", "EXAMPLE.com", "example.com.", "a.b.c.example", "xn--bcher-kva.example", "bücher.example", "日本語.jp", "my_host.example",
		"8.8.8.8", "2606:4700:4700::1111", "[2606:4700:4700::1111]", "::ffff:8.8.8.8", "1e100.net", "0xcafe.example", "127.0.0.1.nip.io",
		"10.0.0.1.example", "localhost.example", "notlocalhost", "mylocalhost.example", "a.0xg", "0xg", "1a", "metadata.google.internal", "deadbeef",
	} {
		if err := CheckHost(host); err != nil {
			t.Errorf("%q refused: %v", host, err)
		}
	}
}

func TestCheckHostErrorText(t *testing.T) {
	for host, want := range map[string]string{
		"10.0.0.7":        "host 10.0.0.7 is private (RFC 1918)",
		"127.1":           "host 127.1 is a spelling of 127.0.0.1, which is loopback (RFC 1122)",
		"134744072":       "host 134744072 is an unusual spelling of 8.8.8.8",
		"localhost":       "host localhost is the local machine",
		"a b":             `host "a b" is not a host name`,
		"":                `host "" is empty`,
		"256.1.1.1":       "host 256.1.1.1 is not an address",
		"１２７.0.0.1":       `host "\uff11\uff12\uff17.0.0.1" is a spelling of 127.0.0.1, which is loopback (RFC 1122)`,
		"[fe80::1%eth0]":  "host [fe80::1%eth0] is bound to a zone",
		"127%2e0%2e0%2e1": "host 127%2e0%2e0%2e1 is not a host name",
	} {
		err := CheckHost(host)
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

// However an address is spelled, the verdict of CheckHost is at least as strict as Check's.
func FuzzCheckHost(f *testing.F) {
	for _, host := range []string{"127.0.0.1", "0x7f.1", "017700000001", "[::1]", "localhost", "example.com", "１２７.1", "fe80::1%eth0", "a%2e"} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		err := CheckHost(host)
		if err != nil {
			if s := err.Error(); len(s) > 1000 {
				t.Errorf("long error for %q: %d bytes", host, len(s))
			}
			return
		}
		if addr, aerr := netip.ParseAddr(host); aerr == nil && Check(addr) != nil {
			t.Errorf("CheckHost passes %q, Check does not", host)
		}
		if u, uerr := url.Parse("http://" + host + "/"); uerr != nil || (u.Hostname() != host && "["+u.Hostname()+"]" != host && u.Host != "["+host+"]") {
			if _, perr := netip.ParseAddr(host); perr != nil { // an IPv6 literal without brackets is no URL host, and fine
				t.Errorf("passes %q, which is no URL host: %v", host, uerr)
			}
		}
	})
}

// Every way to write an IPv4 address as one to four decimal, octal or hexadecimal numbers must be refused for a refused address.
func FuzzSpellings(f *testing.F) {
	f.Add([]byte{127, 0, 0, 1}, uint8(0))
	f.Add([]byte{169, 254, 169, 254}, uint8(7))
	f.Fuzz(func(t *testing.T, b []byte, form uint8) {
		if len(b) != 4 {
			return
		}
		addr := netip.AddrFrom4([4]byte(b))
		host := spell(addr, int(form)%4+1, int(form)/4%3)
		if err := CheckHost(host); err == nil && (Check(addr) != nil || host != addr.String()) {
			t.Errorf("%q, a spelling of %v, passes", host, addr)
		}
	})
}

func spell(addr netip.Addr, parts, base int) string {
	b := addr.As4()
	verb := []string{"%d", "0%o", "0x%x"}[base]
	s, rest := "", uint64(0)
	for i, c := range b {
		if i < parts-1 {
			s += fmt.Sprintf(verb, c) + "."
		} else {
			rest = rest<<8 | uint64(c)
		}
	}
	return s + fmt.Sprintf(verb, rest)
}
