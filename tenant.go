package webhook

// TenantPolicy is a tenant's share of the senders, and the bound of what may wait for all of its endpoints together.
type TenantPolicy struct {
	// Weight is its share in attempts begun, in proportion to other tenants', while there is not enough for all; zero: 1; at
	// most 1,000. What is out of range counts as the nearest that is not.
	Weight int

	MaxBacklog int        // deliveries that may wait, over all of its endpoints; zero or less: any number
	WhenFull   FullPolicy // what happens then
}
