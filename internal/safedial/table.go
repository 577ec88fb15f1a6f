package safedial

import "net/netip"

// entry is a range that no request may go to, and why.
type entry struct {
	prefix netip.Prefix
	reason string // completes "is …"
}

// special4 and special6 are the ranges refused. They hold every entry of the IANA special-purpose address registries
// (https://www.iana.org/assignments/iana-ipv4-special-registry, iana-ipv6-special-registry; as of October 2025), globally
// reachable or not, because no receiver of webhooks lives in any of them, and what the registries leave to others:
// multicast, the deprecated forms and the metadata addresses of clouds. The first match gives the reason, so the narrower stands first.
//
// Cloud metadata addresses that are not listed one by one lie in a range that is: AWS fd00:ec2::254 and fd00:ec2::23, Google
// fd20:ce::254, Oracle fd00:c1::a9fe:a9fe, Scaleway fd00:42::42 and Linode fd00:a9fe:a9fe::1 in fc00::/7; AWS ECS 169.254.170.2
// and Tencent 169.254.0.23 in 169.254.0.0/16.
var (
	special4 = []entry{
		{netip.MustParsePrefix("169.254.169.254/32"), "a cloud metadata address"},       // AWS, Azure, Google, Oracle, DigitalOcean, OpenStack, …
		{netip.MustParsePrefix("100.100.100.200/32"), "a cloud metadata address"},       // Alibaba Cloud, within RFC 6598
		{netip.MustParsePrefix("192.0.0.192/32"), "a cloud metadata address"},           // Oracle Cloud Classic, within RFC 6890
		{netip.MustParsePrefix("168.63.129.16/32"), "a cloud platform address (Azure)"}, // Azure WireServer: public space, answers only inside Azure
		{netip.MustParsePrefix("0.0.0.0/8"), "unspecified (RFC 791)"},                   // Linux connects 0.0.0.0 to itself
		{netip.MustParsePrefix("10.0.0.0/8"), "private (RFC 1918)"},
		{netip.MustParsePrefix("100.64.0.0/10"), "shared behind carriers (RFC 6598)"}, // CGNAT, Kubernetes and VPN overlays
		{netip.MustParsePrefix("127.0.0.0/8"), "loopback (RFC 1122)"},
		{netip.MustParsePrefix("169.254.0.0/16"), "link-local (RFC 3927)"},
		{netip.MustParsePrefix("172.16.0.0/12"), "private (RFC 1918)"},
		{netip.MustParsePrefix("192.0.0.0/24"), "for protocols (RFC 6890)"}, // DS-Lite, PCP and TURN anycast, NAT64 discovery, …
		{netip.MustParsePrefix("192.0.2.0/24"), "documentation (RFC 5737)"},
		{netip.MustParsePrefix("192.31.196.0/24"), "AS112 (RFC 7535)"},             // sinkhole of reverse DNS
		{netip.MustParsePrefix("192.52.193.0/24"), "AMT (RFC 7450)"},               // multicast tunnels
		{netip.MustParsePrefix("192.88.99.0/24"), "6to4 relay anycast (RFC 7526)"}, // with 192.88.99.2, 6a44 (RFC 6751)
		{netip.MustParsePrefix("192.168.0.0/16"), "private (RFC 1918)"},
		{netip.MustParsePrefix("192.175.48.0/24"), "AS112 (RFC 7534)"},
		{netip.MustParsePrefix("198.18.0.0/15"), "benchmarking (RFC 2544)"},
		{netip.MustParsePrefix("198.51.100.0/24"), "documentation (RFC 5737)"},
		{netip.MustParsePrefix("203.0.113.0/24"), "documentation (RFC 5737)"},
		{netip.MustParsePrefix("224.0.0.0/4"), "multicast (RFC 1112)"}, // IANA multicast registry
		{netip.MustParsePrefix("255.255.255.255/32"), "the broadcast address (RFC 8190)"},
		{netip.MustParsePrefix("240.0.0.0/4"), "reserved (RFC 1112)"},
	}

	special6 = []entry{
		{netip.MustParsePrefix("fd00:ec2::254/128"), "a cloud metadata address"}, // AWS
		{netip.MustParsePrefix("fd20:ce::254/128"), "a cloud metadata address"},  // Google
		{netip.MustParsePrefix("::/128"), "unspecified (RFC 4291)"},              // Linux connects :: to itself
		{netip.MustParsePrefix("::1/128"), "loopback (RFC 4291)"},
		{netip.MustParsePrefix("::/96"), "IPv4-compatible (RFC 4291)"},           // deprecated
		{netip.MustParsePrefix("::ffff:0:0:0/96"), "IPv4-translated (RFC 2765)"}, // SIIT, obsolete
		{netip.MustParsePrefix("64:ff9b::/96"), "NAT64 (RFC 6052)"},              // a translator turns it into the IPv4 address within
		{netip.MustParsePrefix("64:ff9b:1::/48"), "local NAT64 (RFC 8215)"},
		{netip.MustParsePrefix("100::/64"), "discard-only (RFC 6666)"},
		{netip.MustParsePrefix("100:0:0:1::/64"), "a dummy prefix (RFC 9780)"},
		{netip.MustParsePrefix("2001::/32"), "Teredo (RFC 4380)"},                      // tunnels to the IPv4 address within
		{netip.MustParsePrefix("2001:1::/32"), "for protocols (RFC 7723, 8155, 9665)"}, // PCP, TURN and SRP anycast
		{netip.MustParsePrefix("2001:2::/48"), "benchmarking (RFC 5180)"},
		{netip.MustParsePrefix("2001:3::/32"), "AMT (RFC 7450)"},
		{netip.MustParsePrefix("2001:4:112::/48"), "AS112 (RFC 7535)"},
		{netip.MustParsePrefix("2001:10::/28"), "ORCHID (RFC 4843)"}, // hashes, not locations
		{netip.MustParsePrefix("2001:20::/28"), "ORCHIDv2 (RFC 7343)"},
		{netip.MustParsePrefix("2001:30::/28"), "drone entity tags (RFC 9374)"},
		{netip.MustParsePrefix("2001::/23"), "for protocols (RFC 2928)"}, // the rest of the block above
		{netip.MustParsePrefix("2001:db8::/32"), "documentation (RFC 3849)"},
		{netip.MustParsePrefix("2002::/16"), "6to4 (RFC 3056)"}, // tunnels to the IPv4 address within
		{netip.MustParsePrefix("2620:4f:8000::/48"), "AS112 (RFC 7534)"},
		{netip.MustParsePrefix("3ffe::/16"), "of the closed 6bone (RFC 3701)"}, // with Windows XP's Teredo, 3ffe:831f::/32
		{netip.MustParsePrefix("3fff::/20"), "documentation (RFC 9637)"},
		{netip.MustParsePrefix("5f00::/16"), "segment routing (RFC 9602)"}, // SRv6 identifiers
		{netip.MustParsePrefix("fc00::/7"), "private (RFC 4193)"},          // unique local
		{netip.MustParsePrefix("fe80::/10"), "link-local (RFC 4291)"},
		{netip.MustParsePrefix("fec0::/10"), "site-local (RFC 3879)"}, // deprecated
		{netip.MustParsePrefix("ff00::/8"), "multicast (RFC 4291)"},
	}

	// global6 is all that IANA gives out as global unicast IPv6. Whatever is outside and not named above is refused too.
	global6 = netip.MustParsePrefix("2000::/3")
)
