package webhook

import "context"

// alarms tells when a bound of DispatcherOptions.Alarms is passed.
type alarms struct {
	d *Dispatcher
}

func newAlarms(d *Dispatcher) *alarms { return &alarms{d: d} }

// look compares what waits with the bounds, and tells. It is called about twice a second and keeps its own pace.
func (a *alarms) look(_ context.Context) {}
