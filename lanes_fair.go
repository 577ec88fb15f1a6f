package webhook

// fair gives out elements so that each tenant gets turns in proportion to its weight, however many elements it has: stride
// scheduling. Each tenant has a pass, which moves on by strideUnit/weight for each thing that it is charged; the next turn
// is that of the least pass. Within a tenant elements go in the order in which they came. The zero value is empty.
//
// A push, a pop and a charge cost O(log n) for n tenants that have elements. How many elements there are does not matter.
type fair[E any] struct {
	shares map[*tenant]*share[E]
	due    []*share[E] // those with elements: a heap by pass
	last   *share[E]   // the one asked for last: mostly it is asked for again
	now    uint64      // the pass of the last turn
	weight int         // of all in due together
	most   int         // of shares before some are forgotten; 0: sharesLeast
}

// sharesLeast is how many tenants are remembered at least.
const sharesLeast = 1024

// share is a tenant's part of a fair.
type share[E any] struct {
	tenant *tenant
	queue  fifo[E]
	pass   uint64
	weight int
	at     int  // its place in due; -1: none
	asked  bool // for since tenants were forgotten last
}

// strideUnit is what a tenant of weight 1 is charged. Passes wrap around after 2^64; they are compared by their difference,
// which stays small.
const strideUnit = 1 << 20

func (s *share[E]) before(other *share[E]) bool { return int64(s.pass-other.pass) < 0 }

func (f *fair[E]) of(t *tenant) *share[E] {
	if f.last != nil && f.last.tenant == t {
		return f.last
	}
	s := f.shares[t]
	if s == nil {
		f.forget()
		s = &share[E]{tenant: t, pass: f.now, at: -1}
		f.shares[t] = s
	}
	f.last, s.asked = s, true
	return s
}

// forget makes room for one more tenant: there may be any number in the course of time. A tenant without elements is forgotten when it has no more
// than its share, and in any case when it was not asked for while as many others came as are remembered: then what it was ahead is forgiven.
func (f *fair[E]) forget() {
	if f.shares == nil {
		f.shares = make(map[*tenant]*share[E])
	}
	if len(f.shares) < max(f.most, sharesLeast) {
		return
	}
	for t, s := range f.shares {
		if s.at < 0 && (!s.asked || int64(s.pass-f.now) <= 0) {
			delete(f.shares, t)
		}
		s.asked = false
	}
	f.most, f.last = max(2*len(f.shares), sharesLeast), nil
}

// push adds an element. A tenant that had none has no credit from the time when it had none.
func (f *fair[E]) push(t *tenant, e E) {
	s := f.of(t)
	s.queue.push(e)
	if s.at >= 0 {
		return
	}
	if int64(s.pass-f.now) < 0 {
		s.pass = f.now
	}
	s.weight = t.policy().Weight
	f.weight += s.weight
	s.at = len(f.due)
	f.due = append(f.due, s)
	f.up(s.at)
}

// pop removes the next element and says whose it was. That is free: see charge.
func (f *fair[E]) pop() (e E, t *tenant, ok bool) {
	if len(f.due) == 0 {
		return e, nil, false
	}
	s := f.due[0]
	f.last = s
	e, _ = s.queue.pop()
	if int64(s.pass-f.now) > 0 {
		f.now = s.pass
	}
	if s.queue.len() == 0 {
		f.remove(s)
	}
	return e, s.tenant, true
}

// charge tells that a tenant got n; negative: that it did not get what it was charged for.
func (f *fair[E]) charge(t *tenant, n int) {
	s, weight := f.of(t), t.policy().Weight
	s.pass += uint64(n * (strideUnit / weight))
	if s.at < 0 {
		return
	}
	f.weight += weight - s.weight
	s.weight = weight
	f.down(f.up(s.at))
}

// isAhead reports whether a tenant has had more than its share.
func (f *fair[E]) isAhead(t *tenant) bool { return int64(f.of(t).pass-f.now) > 0 }

// hasNone reports whether a tenant has no elements.
func (f *fair[E]) hasNone(t *tenant) bool { return f.of(t).at < 0 }

func (f *fair[E]) remove(s *share[E]) {
	i, last := s.at, len(f.due)-1
	f.swap(i, last)
	f.due[last] = nil
	f.due = f.due[:last]
	s.at = -1
	f.weight -= s.weight
	if i < last {
		f.down(f.up(i))
	}
}

func (f *fair[E]) swap(i, j int) {
	f.due[i], f.due[j] = f.due[j], f.due[i]
	f.due[i].at, f.due[j].at = i, j
}

// up and down move the share at i to its place, and return that.
func (f *fair[E]) up(i int) int {
	for i > 0 {
		parent := (i - 1) / 2
		if !f.due[i].before(f.due[parent]) {
			break
		}
		f.swap(i, parent)
		i = parent
	}
	return i
}

func (f *fair[E]) down(i int) int {
	for {
		child := 2*i + 1
		if child >= len(f.due) {
			return i
		}
		if right := child + 1; right < len(f.due) && f.due[right].before(f.due[child]) {
			child = right
		}
		if !f.due[child].before(f.due[i]) {
			return i
		}
		f.swap(i, child)
		i = child
	}
}
