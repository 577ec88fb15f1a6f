package webhook_test

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// shareholder is a tenant in a test.
type shareholder struct {
	name      string
	weight    int
	endpoints int
}

// endpointsOf are a tenant's, each at a host that begins with the tenant's name and a dash. They may have many attempts under way.
func endpointsOf(t *testing.T, h shareholder) (eps []webhook.Endpoint) {
	for i := range h.endpoints {
		ep := endpoint(t, fmt.Sprintf("%s-%04d", h.name, i))
		ep.Tenant, ep.MaxInFlight = h.name, 512
		eps = append(eps, ep)
	}
	return eps
}

// weights is a DispatcherOptions.Tenants.
func weights(all ...shareholder) func(string) webhook.TenantPolicy {
	return func(name string) webhook.TenantPolicy {
		for _, h := range all {
			if h.name == name {
				return webhook.TenantPolicy{Weight: h.weight}
			}
		}
		return webhook.TenantPolicy{}
	}
}

// fill sends to a tenant until each of its endpoints has its part of n deliveries.
func fill(t *testing.T, d *webhook.Dispatcher, h shareholder, n int) {
	t.Helper()
	for range (n + h.endpoints - 1) / h.endpoints {
		if _, err := d.Send(t.Context(), webhook.Event{Type: "x", Tenant: h.name}); err != nil {
			t.Fatal(err)
		}
	}
}

// tenantOf is whose a request was.
func tenantOf(g received) string {
	_, rest, _ := strings.Cut(g.url, "//")
	name, _, _ := strings.Cut(rest, "-")
	return name
}

// began counts the attempts of each tenant that began in a time.
func began(got []received, from, to time.Time) map[string]int {
	n := make(map[string]int)
	for _, g := range got {
		if !g.at.Before(from) && g.at.Before(to) {
			n[tenantOf(g)]++
		}
	}
	return n
}

// takes answers after a while.
func takes(d time.Duration) func(*http.Request, int) (int, http.Header, error) {
	return func(*http.Request, int) (int, http.Header, error) {
		time.Sleep(d)
		return 200, nil, nil
	}
}

// While all tenants have more than can be sent, each has attempts by its weight, whatever number of endpoints it has, in each
// second. All of the senders are used.
func TestTenantsByWeight(t *testing.T) {
	for _, tc := range []struct {
		name        string
		holders     []shareholder
		senders     int
		dispatchers int
	}{
		{"alike", []shareholder{{"a", 0, 1}, {"b", 0, 1000}}, 32, 1},
		{"1 to 3", []shareholder{{"a", 1, 1}, {"b", 3, 1}}, 32, 1},
		{"1 to 3, the lighter of 1,000 endpoints", []shareholder{{"a", 1, 1000}, {"b", 3, 1}}, 32, 1},
		{"1 to 3, the heavier of 1,000 endpoints", []shareholder{{"a", 1, 1}, {"b", 3, 1000}}, 32, 1},
		{"default senders", []shareholder{{"a", 1, 1000}, {"b", 3, 2}}, 0, 1},
		{"few senders", []shareholder{{"a", 1, 100}, {"b", 3, 1}}, 4, 1},
		{"five", []shareholder{{"a", 1, 300}, {"b", 2, 1}, {"c", 3, 30}, {"d", 5, 2}, {"e", 9, 1}}, 40, 1},
		{"two dispatchers", []shareholder{{"a", 1, 300}, {"b", 3, 1}}, 32, 2},
		{"twenty of weight 1, one of 20", func() []shareholder {
			all := []shareholder{{"big", 20, 3}}
			for i := range 20 {
				all = append(all, shareholder{fmt.Sprintf("t%d", i), 1, 1 + i})
			}
			return all
		}(), 80, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const took = 100 * time.Millisecond
				store, rc := memstore.New(), &receiver{answer: takes(took)}
				var eps []webhook.Endpoint
				sum := 0
				for _, h := range tc.holders {
					eps = append(eps, endpointsOf(t, h)...)
					sum += max(h.weight, 1)
				}
				senders := tc.senders
				if senders == 0 {
					senders = 256
				}
				perSecond := tc.dispatchers * senders * int(time.Second/took)
				other := sender(t, store, eps...)
				for _, h := range tc.holders {
					fill(t, other, h, 5*perSecond*max(h.weight, 1)/sum+50) // it takes 5s
				}
				start := time.Now()
				for range tc.dispatchers {
					r := &running{store: store, rc: rc}
					r.start(t, webhook.DispatcherOptions{Senders: tc.senders, Tenants: weights(tc.holders...)}, eps...)
				}
				time.Sleep(4 * time.Second)
				got := rc.requests()
				check := func(from, seconds int, tolerance float64) {
					since := start.Add(time.Duration(from) * time.Second)
					n := began(got, since, since.Add(time.Duration(seconds)*time.Second))
					all := 0
					for _, h := range tc.holders {
						all += n[h.name]
						want := float64(seconds*perSecond*max(h.weight, 1)) / float64(sum)
						if math.Abs(float64(n[h.name])-want) > max(tolerance*want, 2) {
							t.Errorf("%ds from second %d: tenant %s of weight %d began %d attempts, want %.0f", seconds, from, h.name, h.weight, n[h.name], want)
						}
					}
					if all < seconds*perSecond*98/100 {
						t.Errorf("%ds from second %d: %d attempts, want %d: senders were idle", seconds, from, all, perSecond)
					}
				}
				check(1, 3, 0.05)
				for second := range 3 {
					check(second+1, 1, 0.15) // a claim is a good part of a second
				}
			})
		})
	}
}

// What a tenant does not use goes to the others; and it has its share again, no more, when it comes back.
func TestIdleTenantsShareGoesToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := shareholder{"a", 1, 100}, shareholder{"b", 3, 1}
		store, rc := memstore.New(), &receiver{answer: takes(50 * time.Millisecond)}
		eps := append(endpointsOf(t, a), endpointsOf(t, b)...)
		other := sender(t, store, eps...)
		fill(t, other, a, 20_000)
		r := &running{store: store, rc: rc}
		r.start(t, webhook.DispatcherOptions{Senders: 32, Tenants: weights(a, b)}, eps...) // 640 a second
		start := time.Now()
		time.Sleep(10 * time.Second)
		fill(t, other, b, 10_000)
		r.Wake()
		time.Sleep(10 * time.Second)
		got := rc.requests()
		if n := began(got, start.Add(time.Second), start.Add(9*time.Second)); n["a"] < 640*8*98/100 {
			t.Errorf("alone it began %d attempts in 8s, want %d", n["a"], 640*8)
		}
		for s := range 8 {
			from := start.Add(time.Duration(11+s) * time.Second)
			n := began(got, from, from.Add(time.Second))
			if n["b"] < 456 || n["b"] > 504 {
				t.Errorf("second %d: the one that came back began %d of %d attempts, want 480", s+1, n["b"], n["a"]+n["b"])
			}
		}
	})
}

// However many endpoints and deliveries other tenants have, one that sends little is served as if it were alone.
func TestTenantOfManyEndpointsDelaysNoOther(t *testing.T) {
	for _, senders := range []int{32, 128} {
		t.Run(fmt.Sprint(senders, " senders"), func(t *testing.T) {
			alone, _ := trickle(t, senders, 0)
			beside, n := trickle(t, senders, 1000)
			t.Logf("p99 is %v alone, %v beside a tenant of 1,000 endpoints, which began %d attempts", alone, beside, n)
			if float64(beside) > 1.2*float64(alone) {
				t.Errorf("p99 is %v beside a tenant of 1,000 endpoints, %v alone", beside, alone)
			}
			if n < senders*94*95/100 {
				t.Errorf("the other began %d attempts in 4.7s, want nearly %d", n, senders*94)
			}
		})
	}
}

// trickle sends 20 deliveries a second to a small tenant beside one of so many endpoints that has more than can be sent. It returns the
// 99th percentile of the time from Send to the answer.
func trickle(t *testing.T, senders, many int) (p99 time.Duration, others int) {
	synctest.Test(t, func(t *testing.T) {
		const took = 50 * time.Millisecond
		big, small := shareholder{"big", 1, max(many, 1)}, shareholder{"small", 1, 1}
		store, rc := memstore.New(), &receiver{answer: func(r *http.Request, n int) (int, http.Header, error) {
			if strings.Contains(r.URL.Host, "small") {
				return takes(took)(r, n)
			}
			return takes(took+time.Duration(n%21-10)*time.Millisecond+time.Duration(n)*time.Microsecond%time.Millisecond)(r, n)
		}}
		eps := append(endpointsOf(t, big), endpointsOf(t, small)...)
		other := sender(t, store, eps...)
		if many > 0 {
			fill(t, other, big, 20*senders*8)
		}
		r := &running{store: store, rc: rc}
		r.start(t, webhook.DispatcherOptions{Senders: senders}, eps...)
		time.Sleep(2 * time.Second)
		start := time.Now()
		var sent []time.Time
		for range 100 {
			sent = append(sent, time.Now())
			r.send(t, webhook.Event{Type: "x", Tenant: "small"})
			time.Sleep(47 * time.Millisecond)
		}
		end := time.Now()
		time.Sleep(time.Second)
		var waited []time.Duration
		for _, g := range rc.requests() {
			if tenantOf(g) == "small" {
				waited = append(waited, g.at.Add(took).Sub(sent[len(waited)]))
			}
		}
		if len(waited) != 100 {
			t.Fatalf("%d deliveries, want 100", len(waited))
		}
		slices.Sort(waited)
		p99, others = waited[len(waited)*99/100], began(rc.requests(), start, end)["big"]
	})
	return p99, others
}

// A change of weight applies within seconds.
func TestTenantsWeightChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := shareholder{"a", 1, 50}, shareholder{"b", 1, 1}
		store, rc := memstore.New(), &receiver{answer: takes(50 * time.Millisecond)}
		eps := append(endpointsOf(t, a), endpointsOf(t, b)...)
		other := sender(t, store, eps...)
		fill(t, other, a, 10_000)
		fill(t, other, b, 10_000)
		var weight atomic.Int64
		weight.Store(1)
		r := &running{store: store, rc: rc}
		r.start(t, webhook.DispatcherOptions{Senders: 32, Tenants: func(name string) webhook.TenantPolicy {
			if name == "b" {
				return webhook.TenantPolicy{Weight: int(weight.Load())}
			}
			return webhook.TenantPolicy{}
		}}, eps...)
		start := time.Now()
		time.Sleep(3 * time.Second)
		weight.Store(4)
		time.Sleep(4 * time.Second)
		got := rc.requests()
		if n := began(got, start.Add(time.Second), start.Add(3*time.Second)); math.Abs(float64(n["b"])-640) > 32 {
			t.Errorf("before: %d of %d attempts, want half", n["b"], n["a"]+n["b"])
		}
		if n := began(got, start.Add(5*time.Second), start.Add(7*time.Second)); math.Abs(float64(n["b"])-1024) > 51 {
			t.Errorf("after: %d of %d attempts, want 4 in 5", n["b"], n["a"]+n["b"])
		}
	})
}
