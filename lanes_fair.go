package webhook

// fairReady is the endpoints that may start an attempt, each once, in the order of their turns. The zero value is empty. It belongs
// to lanes.mu.
type fairReady struct {
	turns fifo[*endpointLanes]
}

func (r *fairReady) push(e *endpointLanes) { r.turns.push(e) }

func (r *fairReady) pop() (*endpointLanes, bool) { return r.turns.pop() }
