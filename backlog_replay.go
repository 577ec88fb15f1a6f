package webhook

import "context"

// admitReplay takes the room that deliveries of a replay need, or tells what has too little. Half of each bound is left to what is sent
// meanwhile, and nothing gives way to a replay: where the oldest would, it waits too.
func (b *backlogs) admitReplay(ctx context.Context, routes []*route) (room []admission, full, err error) {
	add := func(id gaugeID, bound, n int) {
		if bound > 0 {
			room = append(room, admission{id: id, bound: bound, n: n, spare: bound / 2})
		}
	}
	for _, rt := range routes {
		add(gaugeID{endpoint: rt.endpoint.ID, tenant: rt.endpoint.Tenant}, rt.endpoint.MaxBacklog, 1)
	}
	if len(routes) > 0 {
		add(gaugeID{tenant: routes[0].endpoint.Tenant}, routes[0].tenant.policy().MaxBacklog, len(routes))
	}
	if len(room) == 0 {
		return nil, nil, nil
	}
	if b.store == nil {
		return nil, nil, errNoLife
	}
	for asked := false; ; asked = true {
		look, unknown, full := b.enter(room)
		if full == nil && !unknown || asked {
			if look {
				b.countSoon()
			}
			if full != nil {
				return nil, full, nil
			}
			return room, nil, nil
		}
		if full == nil {
			b.leave(room, false)
		}
		if err := b.countNow(ctx); err != nil && ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
	}
}
