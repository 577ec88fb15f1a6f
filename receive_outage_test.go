package webhook

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// A store that cannot be asked: 503, come again, and the handler is not run.
func TestReceiveStoreDownAtBegin(t *testing.T) {
	store, handler := newRecvStore(), &recvCounter{}
	h := recvMiddleware(&ReceiveOptions{Dedupe: store})(handler)
	store.down("begin")
	recvWant(t, recvServe(h, recvRequest("k", "x")), 503, false)
	handler.wantRuns(t, 0)
	store.setFail(nil)
	recvWant(t, recvServe(h, recvRequest("k", "x")), 200, false)
	handler.wantRuns(t, 1)
}

// A store that hangs is a store that is down, after 5 s.
func TestReceiveStoreHangsAtBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, handler := newRecvStore(), &recvCounter{}
		h := recvMiddleware(&ReceiveOptions{Dedupe: store})(handler)
		store.setFail(func(ctx context.Context, _ string, _ int) error { <-ctx.Done(); return ctx.Err() })
		start := time.Now()
		recvWant(t, recvServe(h, recvRequest("k", "x")), 503, false)
		if d := time.Since(start); d != storeTimeout {
			t.Errorf("answered after %s", d)
		}
		handler.wantRuns(t, 0)
	})
}

// A store that answers in the very last moment has taken the key, and the handler gets a context that lives.
func TestReceiveStoreLateAtBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := &recvCounter{then: func(_ http.ResponseWriter, r *http.Request) {
			if err := r.Context().Err(); err != nil {
				t.Errorf("handler's context: %v", err)
			}
		}}
		h := recvMiddleware(&ReceiveOptions{Dedupe: recvLateStore{newRecvStore()}})(handler)
		recvWant(t, recvServe(h, recvRequest("k", "x")), 200, false)
		handler.wantRuns(t, 1)
	})
}

type recvLateStore struct{ *recvStore }

func (s recvLateStore) Begin(ctx context.Context, req *BeginRequest) (*BeginResult, error) {
	res, err := s.recvStore.Begin(ctx, req)
	time.Sleep(storeTimeout + time.Millisecond)
	return res, err
}

// A twin that waits when the store goes down is not told that all is well.
func TestReceiveStoreDownWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newRecvStore()
		handler := &recvCounter{then: func(http.ResponseWriter, *http.Request) { time.Sleep(time.Minute) }}
		h := recvMiddleware(&ReceiveOptions{Dedupe: store})(handler)
		go recvServe(h, recvRequest("k", "x"))
		synctest.Wait()
		store.setFail(func(_ context.Context, op string, n int) error {
			if op == "begin" && n == 2 {
				return errRecvStore
			}
			return nil
		})
		recvWant(t, recvServe(h, recvRequest("k", "x")), 503, false)
		handler.wantRuns(t, 1)
		time.Sleep(2 * time.Minute) // the first ends
	})
}

// A short outage at Finish is waited out, and nothing is sent before the record.
func TestReceiveFinishIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, handler := newRecvStore(), &recvCounter{}
		h := recvMiddleware(&ReceiveOptions{Dedupe: store})(handler)
		store.setFail(func(_ context.Context, op string, n int) error {
			if op == "finish" && n < 5 {
				return errRecvStore
			}
			return nil
		})
		recvWant(t, recvServe(h, recvRequest("k", "x")), 200, false)
		if n := store.count("finish"); n != 6 {
			t.Errorf("Finish was called %d times", n)
		}
		recvWant(t, recvServe(h, recvRequest("k", "x")), 200, true)
		handler.wantRuns(t, 1)
	})
}

// A Finish that was done although it failed is found out: one run, and the first is answered 2xx.
func TestReceiveFinishOutcomeUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, handler := newRecvStore(), &recvCounter{}
		store.after = func(op string, n int) error {
			if op == "finish" && n == 0 {
				return errRecvStore
			}
			return nil
		}
		h := recvMiddleware(&ReceiveOptions{Dedupe: store})(handler)
		if resp := recvServe(h, recvRequest("k", "x")); resp.StatusCode != 200 || recvText(t, resp) != "done" {
			t.Errorf("status %d", resp.StatusCode)
		}
		recvWant(t, recvServe(h, recvRequest("k", "x")), 200, true)
		handler.wantRuns(t, 1)
	})
}

// The handler has succeeded and the store stays down: no 2xx without a record, the key stays held, and the next try, be
// it within the hold or after it, gets the answer without running the handler again.
func TestReceiveStoreDownAtFinish(t *testing.T) {
	for _, tt := range []struct {
		name  string
		after time.Duration
		ops   []string
	}{
		{"next try within the hold", 30 * time.Second, []string{"finish"}},
		{"next try after the hold", time.Hour, []string{"finish"}},
		{"all of the store", time.Hour, []string{"begin", "finish", "release"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, handler := newRecvStore(), &recvCounter{}
				handler.then = func(w http.ResponseWriter, _ *http.Request) {
					store.down(tt.ops...)
					w.WriteHeader(202)
				}
				h := recvMiddleware(&ReceiveOptions{Dedupe: store, Wait: -1})(handler)
				start := time.Now()
				recvWant(t, recvServe(h, recvRequest("k", "x")), 503, false)
				if d := time.Since(start); d != recordPatience {
					t.Errorf("gave up after %s", d)
				}
				if store.count("release") != 0 {
					t.Error("the key of a handler that succeeded was freed")
				}
				recvWant(t, recvServe(h, recvRequest("k", "x")), 503, false) // still down
				time.Sleep(tt.after)
				store.setFail(nil)
				recvWant(t, recvServe(h, recvRequest("k", "x")), 202, true)
				recvWant(t, recvServe(h, recvRequest("k", "x")), 202, true)
				handler.wantRuns(t, 1)
				other := recvMiddleware(&ReceiveOptions{Dedupe: store, Wait: -1})(handler)
				recvWant(t, recvServe(other, recvRequest("k", "x")), 202, true)
				handler.wantRuns(t, 1)
			})
		})
	}
}

// Each try that takes the key and cannot record the answer leaves it to the next, which need not wait for the hold's end.
func TestReceiveStoreDownAtFinishAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, handler := newRecvStore(), &recvCounter{}
		h := recvMiddleware(&ReceiveOptions{Dedupe: store, Wait: -1})(handler)
		store.down("finish")
		for range 3 {
			recvWant(t, recvServe(h, recvRequest("k", "x")), 503, false)
			time.Sleep(defaultHold) // the key is free, and taken anew by the next
		}
		recvWant(t, recvServe(h, recvRequest("k", "x")), 503, false)
		store.setFail(nil)
		recvWant(t, recvServe(h, recvRequest("k", "x")), 200, true)
		handler.wantRuns(t, 1)
	})
}

// Another process knows only the hold: it refuses while it lasts, and what it records then counts here too.
func TestReceiveStoreDownAtFinishOtherProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, handler := newRecvStore(), &recvCounter{}
		o := &ReceiveOptions{Dedupe: store, Wait: -1}
		here, there := recvMiddleware(o)(handler), recvMiddleware(o)(handler)
		store.down("finish")
		recvWant(t, recvServe(here, recvRequest("k", "x")), 503, false)
		store.setFail(nil)
		recvWant(t, recvServe(there, recvRequest("k", "x")), 409, false)
		handler.wantRuns(t, 1)
		time.Sleep(defaultHold)
		handler.then = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(203) }
		recvWant(t, recvServe(there, recvRequest("k", "x")), 203, false)
		recvWant(t, recvServe(here, recvRequest("k", "x")), 203, true)
		handler.wantRuns(t, 2)
	})
}

// What is kept for one content is not the answer to another.
func TestReceiveStoreDownAtFinishDigest(t *testing.T) {
	for _, later := range []time.Duration{0, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			store, handler := newRecvStore(), &recvCounter{}
			h := recvMiddleware(&ReceiveOptions{Dedupe: store, Key: recvDigestKey})(handler)
			store.down("finish")
			recvWant(t, recvServe(h, recvRequest("order", "confirmed")), 503, false)
			store.setFail(nil)
			time.Sleep(later)
			recvWant(t, recvServe(h, recvRequest("order", "review")), 200, false)
			recvWant(t, recvServe(h, recvRequest("order", "review")), 200, true)
			handler.wantRuns(t, 2)
		})
	}
}

// Answers kept in memory are bounded.
func TestReceiveKeptIsBounded(t *testing.T) {
	u := new(unrecorded)
	at := func(i int) *received { return &received{scope: "s", key: Key{ID: fmt.Sprint(i)}} }
	for i := range 3 * maxKept {
		u.put(at(i), 1, StoredResponse{Status: 200})
		u.put(at(i), 2, StoredResponse{Status: 200})
	}
	if len(u.answers) != maxKept || len(u.order) != maxKept {
		t.Fatalf("%d answers, %d in order", len(u.answers), len(u.order))
	}
	if u.get(at(0)) != nil || u.get(at(3*maxKept-1)).token != 2 {
		t.Error("not the oldest were dropped")
	}
	old := u.get(at(3*maxKept - 1))
	u.put(at(3*maxKept-1), 3, StoredResponse{Status: 200})
	u.drop(at(3*maxKept-1), old)
	if u.get(at(3*maxKept-1)) == nil {
		t.Error("a newer answer was dropped for an older one")
	}
	for i := range 3 * maxKept {
		u.drop(at(i), u.get(at(i)))
	}
	if len(u.answers) != 0 || len(u.order) != 0 {
		t.Errorf("%d answers, %d in order after dropping all", len(u.answers), len(u.order))
	}
}

// The store fails when a key is to be freed: the sender hears of the failure, and the key is free when its hold ends.
func TestReceiveStoreDownAtRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newRecvStore()
		handler := &recvCounter{then: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }}
		h := recvMiddleware(&ReceiveOptions{Dedupe: store})(handler)
		store.down("release")
		start := time.Now()
		recvWant(t, recvServe(h, recvRequest("k", "x")), 500, false)
		if d := time.Since(start); d > storeTimeout {
			t.Errorf("answered after %s", d)
		}
		store.setFail(nil)
		handler.then = nil
		recvWant(t, recvServe(h, recvRequest("k", "x")), 409, false)
		handler.wantRuns(t, 1)
		time.Sleep(defaultHold)
		recvWant(t, recvServe(h, recvRequest("k", "x")), 200, false)
		handler.wantRuns(t, 2)
	})
}

// A crash in the middle leaves a key that is free when its hold ends.
func TestReceiveCrashLeavesHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, handler := newRecvStore(), &recvCounter{}
		_, err := store.Begin(t.Context(), &BeginRequest{Now: time.Now(), Scope: "test", Key: "k", Hold: defaultHold})
		if err != nil {
			t.Fatal(err)
		}
		h := recvMiddleware(&ReceiveOptions{Dedupe: store})(handler)
		recvWant(t, recvServe(h, recvRequest("k", "x")), 409, false)
		time.Sleep(defaultHold)
		recvWant(t, recvServe(h, recvRequest("k", "x")), 200, false)
		handler.wantRuns(t, 1)
	})
}

// A store that calls a key done and has no answer for it is not trusted.
func TestReceiveBadRecord(t *testing.T) {
	for _, resp := range []*StoredResponse{nil, {}, {Status: 99}, {Status: 1000}} {
		handler := &recvCounter{}
		h := recvMiddleware(&ReceiveOptions{Dedupe: recvDoneStore{newRecvStore(), resp}})(handler)
		recvWant(t, recvServe(h, recvRequest("k", "x")), 503, false)
		handler.wantRuns(t, 0)
	}
}

type recvDoneStore struct {
	*recvStore
	resp *StoredResponse
}

func (s recvDoneStore) Begin(context.Context, *BeginRequest) (*BeginResult, error) {
	return &BeginResult{Status: KeyDone, Response: s.resp}, nil
}

// Holds and records are on the store's clock, which is asked seldom.
func TestReceiveStoreClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &recvClockStore{recvStore: newRecvStore(), offset: -10 * time.Minute}
		h := recvMiddleware(&ReceiveOptions{Dedupe: store})(&recvCounter{})
		for i := range 61 {
			recvServe(h, recvRequest(fmt.Sprint(i), "x"))
			last := store.begins[len(store.begins)-1]
			if d := time.Until(last.Now); d != -10*time.Minute {
				t.Fatalf("request %d: the store's time is off by %s", i, d)
			}
			time.Sleep(time.Second)
		}
		if n := store.count("now"); n != 2 {
			t.Errorf("the store's clock was read %d times in a minute", n)
		}
	})
}

// Two processes whose clocks are 10 minutes apart agree on one that is the store's.
func TestReceiveStoreClockFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &recvClockStore{recvStore: newRecvStore(), offset: time.Hour}
		handler := &recvCounter{}
		h := recvMiddleware(&ReceiveOptions{Dedupe: store})(handler)
		store.down("now")
		recvWant(t, recvServe(h, recvRequest("k", "x")), 503, false)
		handler.wantRuns(t, 0)
		store.setFail(nil)
		recvWant(t, recvServe(h, recvRequest("k", "x")), 200, false)
		store.down("now")
		time.Sleep(2 * clockAge)
		recvWant(t, recvServe(h, recvRequest("k2", "x")), 200, false) // the last reading is good enough
	})
}
