package webhook

import "time"

// An attempt that has lasted slowAfter, and every attempt for an endpoint whose attempts do, is slow: it has a sender of its
// own, beyond those of DispatcherOptions.Senders, as long as there are no more than slowShare times as many.
const (
	slowAfter = time.Second
	slowShare = 3
)

// countSlow counts an attempt as slow and sees to it that it takes no sender from the others.
func (l *lanes) countSlow(it *item) {
	it.slow = true
	if l.slow++; l.started < l.senders+l.slow {
		l.started++
		l.grow()
	}
}

// slowDown is called when an attempt has lasted slowAfter. It returns what was claimed in the belief that the endpoint is
// quicker than that. It is to be given back, and then one reservation of the endpoint canceled for each.
func (l *lanes) slowDown(it *item) (left []*item) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open || it.over {
		return nil
	}
	e := it.lanes
	it.overdue = true
	e.overdue++
	e.average = max(e.average, slowAfter)
	switch {
	case it.slow:
	case l.slow < slowShare*l.senders:
		l.countSlow(it)
	default:
		l.lasting.push(it)
	}
	for e.waiting() > e.prefetch() {
		last := e.takeLast()
		l.taken(e, last)
		left = append(left, last)
	}
	e.reserved += len(left)
	l.reserved += len(left)
	return left
}

// useSlow uses the place of a slow attempt that has ended: for one that takes a sender from the quick ones, else to begin one,
// else for one that waits in the store.
func (l *lanes) useSlow() {
	for it, ok := l.lasting.pop(); ok; it, ok = l.lasting.pop() {
		if !it.over {
			l.countSlow(it)
			return
		}
	}
	if !l.unpark(nil) {
		l.feedHungry()
	}
}

// feedHungry lets the feed ask again for one endpoint that it could not fill as there were too many slow attempts.
func (l *lanes) feedHungry() {
	for {
		e, whose, ok := l.hungry.pop()
		if !ok {
			return
		}
		if e.hungry = false; e.wanted {
			l.hungry.charge(whose, 1)
			l.feedMore(e)
			return
		}
	}
}

// unpark lets a parked endpoint try again: any, now that there is room for a slow attempt, or one that is slow no longer. It
// reports whether there was one.
func (l *lanes) unpark(e *endpointLanes) bool {
	for e == nil || !e.parked {
		next, whose, ok := l.parked.pop()
		if !ok {
			return false
		}
		if e = next; e.parked { // else it went on without a place
			l.parked.charge(whose, 1)
		}
	}
	e.parked = false
	l.ready.push(e.tenant, e)
	l.work.Signal()
	return true
}

// isSlow reports whether attempts for the endpoint last, as far as is known.
func (e *endpointLanes) isSlow() bool { return e.overdue > 0 || e.average >= slowAfter }
