package ssrforacle

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"code.dny.dev/ssrf"
	"github.com/signalpost/webhook/internal/safedial"
)

// difference is a range in which the two disagree on purpose.
type difference struct {
	prefix  netip.Prefix
	refused bool // by us; the oracle says the opposite
	reason  string
}

var differences = []difference{
	{netip.MustParsePrefix("168.63.129.16/32"), true,
		"Azure's platform address: public space, but inside Azure it serves secrets. In no registry, so the oracle has it not."},
	{netip.MustParsePrefix("::ffff:0:0/96"), false,
		"IPv4-mapped: Go dials the IPv4 address within, so that one is judged. The oracle refuses the form, even for 8.8.8.8."},
	{netip.MustParsePrefix("3ffe::/16"), true,
		"6bone, closed in 2006 and given back; old tunnels of Windows used it. In no registry of special addresses."},
}

// isISATAP: the IPv4 address within is judged, the oracle does not look at interface identifiers.
func isISATAP(a netip.Addr) bool {
	b := a.As16()
	return a.Is6() && binary.BigEndian.Uint32(b[8:])&^(1<<25) == 0x5efe
}

func compare(t *testing.T, oracle *ssrf.Guardian, addr netip.Addr) {
	t.Helper()
	ours, theirs := safedial.Check(addr), oracle.SafeAddr(addr)
	if (ours == nil) == (theirs == nil) {
		return
	}
	for _, d := range differences {
		if d.prefix.Contains(addr) && d.refused == (ours != nil) {
			return
		}
	}
	if isISATAP(addr) && ours != nil {
		return
	}
	t.Errorf("%v: ours %v, theirs %v", addr, ours, theirs)
}

// corners are both ends of a range, their neighbours on either side, and the same with the interface identifiers of tunnels.
func corners(p netip.Prefix) []netip.Addr {
	first := p.Masked().Addr()
	b := first.AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	last, _ := netip.AddrFromSlice(b)
	var as []netip.Addr
	for _, a := range []netip.Addr{first, first.Prev(), first.Next(), last, last.Prev(), last.Next()} {
		if a.IsValid() {
			as = append(as, a)
		}
	}
	return as
}

func TestBoundaries(t *testing.T) {
	oracle := ssrf.New()
	prefixes := append([]netip.Prefix{ssrf.IPv6GlobalUnicast, ssrf.IPv6NAT64Prefix}, ssrf.IPv4DeniedPrefixes...)
	prefixes = append(prefixes, ssrf.IPv6DeniedPrefixes...)
	for _, d := range differences {
		prefixes = append(prefixes, d.prefix)
	}
	for _, s := range []string{"::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10",
		"ff00::/8", "2001::/32", "2001:2::/48", "2001:10::/28", "2001:20::/28", "2001:30::/28", "169.254.169.254/32", "100.100.100.200/32"} {
		prefixes = append(prefixes, netip.MustParsePrefix(s))
	}
	n := 0
	for _, p := range prefixes {
		for _, a := range corners(p) {
			compare(t, oracle, a)
			n++
			if a.Is4() {
				for _, e := range embed(a) {
					compare(t, oracle, e)
					n++
				}
			}
		}
	}
	if n < 500 {
		t.Errorf("only %d addresses compared", n)
	}
}

func embed(a netip.Addr) []netip.Addr {
	v4 := a.As4()
	var out []netip.Addr
	for _, at := range []struct {
		prefix string
		pos    int
	}{{"::ffff:0:0", 12}, {"::", 12}, {"64:ff9b::", 12}, {"64:ff9b:1::", 12}, {"2002::", 2}, {"2001::", 12}, {"2a00::5efe:0:0", 12}} {
		b := netip.MustParseAddr(at.prefix).As16()
		copy(b[at.pos:], v4[:])
		out = append(out, netip.AddrFrom16(b))
	}
	return out
}

func TestRandom(t *testing.T) {
	oracle := ssrf.New()
	r := rand.New(rand.NewPCG(1, 2))
	starts := []netip.Prefix{ssrf.IPv6GlobalUnicast, netip.MustParsePrefix("2001::/16"), netip.MustParsePrefix("3ff0::/12"), netip.MustParsePrefix("::/3")}
	starts = append(starts, ssrf.IPv6DeniedPrefixes...)
	for range 200_000 {
		var v4 [4]byte
		binary.BigEndian.PutUint32(v4[:], r.Uint32())
		compare(t, oracle, netip.AddrFrom4(v4))

		var v6 [16]byte
		binary.BigEndian.PutUint64(v6[:8], r.Uint64())
		binary.BigEndian.PutUint64(v6[8:], r.Uint64())
		compare(t, oracle, netip.AddrFrom16(v6))

		p := starts[r.IntN(len(starts))] // uniform addresses rarely fall near a range
		base := p.Masked().Addr().As16()
		for i := p.Bits(); i < 128; i++ {
			bit := byte(1) << (7 - i%8)
			base[i/8] = base[i/8]&^bit | v6[i/8]&bit
		}
		compare(t, oracle, netip.AddrFrom16(base))
	}
}

// Every difference must be a real one, or the list lies.
func TestDifferencesAreReal(t *testing.T) {
	oracle := ssrf.New()
	for _, d := range differences {
		addr := d.prefix.Addr()
		if d.prefix.Addr().Is4In6() {
			addr = netip.MustParseAddr("::ffff:8.8.8.8")
		}
		if ours, theirs := safedial.Check(addr), oracle.SafeAddr(addr); (ours != nil) != d.refused || (theirs != nil) == d.refused {
			t.Errorf("%v: ours %v, theirs %v; listed because: %s", addr, ours, theirs, d.reason)
		}
	}
	isatap := netip.MustParseAddr("2a00::5efe:10.0.0.1")
	if safedial.Check(isatap) == nil || oracle.SafeAddr(isatap) != nil {
		t.Error("ISATAP is no difference")
	}
}
