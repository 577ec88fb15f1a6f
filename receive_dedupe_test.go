package webhook

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A repeat gets what the first got, and a header that says so; cookies stay with the first.
func TestReceiveRepeat(t *testing.T) {
	store := newRecvStore()
	handler := &recvCounter{then: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Trace", "1")
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "canary"})
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"received":true}`)
	}}
	h := recvMiddleware(&ReceiveOptions{Dedupe: store})(handler)
	first := recvServe(h, recvRequest("k", "x"))
	recvWant(t, first, 202, false)
	if first.Header.Get("Set-Cookie") == "" || first.Header.Get("X-Trace") == "" || recvText(t, first) != `{"received":true}` {
		t.Errorf("first answer lacks something: %v", first.Header)
	}
	for range 3 {
		again := recvServe(h, recvRequest("k", "x"))
		recvWant(t, again, 202, true)
		if recvText(t, again) != `{"received":true}` || again.Header.Get("Content-Type") != "application/json" {
			t.Errorf("repeat: %v", again.Header)
		}
		if again.Header.Get("Set-Cookie") != "" || again.Header.Get("X-Trace") != "" {
			t.Errorf("repeat shows what is not to be kept: %v", again.Header)
		}
	}
	handler.wantRuns(t, 1)
}

// Even a store that has a cookie does not get it out.
func TestReceiveRepeatFiltersStore(t *testing.T) {
	w := httptest.NewRecorder()
	sent := map[string][]string{"set-cookie": {"a"}, "Content-Length": {"9"}, "Etag": {"e"}} // as a store of other people's may have it
	sendStored(w, &StoredResponse{Status: 200, Header: sent})
	if h := w.Header(); h.Get("Set-Cookie") != "" || len(map[string][]string(h)["set-cookie"]) > 0 || h.Get("Content-Length") != "" || h.Get("Etag") != "e" {
		t.Errorf("%v", h)
	}
}

// Above the limit the status alone is kept, headers counted.
func TestReceiveRepeatLargeAnswer(t *testing.T) {
	const ct = "text/x"
	room := 64<<10 - len("Content-Type") - len(ct)
	for _, tt := range []struct {
		size, max int
		stored    bool
	}{{room, 0, true}, {room + 1, 0, false}, {maxAnswer, 0, false}, {1, -1, false}, {100, 200, true}, {200, 200, false}} {
		handler := &recvCounter{then: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", ct)
			w.WriteHeader(201)
			_, _ = w.Write(make([]byte, tt.size))
		}}
		h := recvMiddleware(&ReceiveOptions{Dedupe: newRecvStore(), MaxStoredBody: tt.max})(handler)
		first := recvServe(h, recvRequest("k", "x"))
		recvWant(t, first, 201, false)
		if n := len(recvText(t, first)); n != tt.size {
			t.Errorf("first got %d bytes of %d", n, tt.size)
		}
		again := recvServe(h, recvRequest("k", "x"))
		recvWant(t, again, 201, true)
		if got := len(recvText(t, again)) == tt.size && again.Header.Get("Content-Type") == ct; got != tt.stored {
			t.Errorf("%d bytes, limit %d: stored = %v", tt.size, tt.max, got)
		}
		handler.wantRuns(t, 1)
	}
}

// 50 equal requests at once, over two middlewares on one store (as two processes are), run the handler once.
func TestReceiveEqualAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newRecvStore()
		handler := &recvCounter{then: func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Second)
			_, _ = io.WriteString(w, "done")
		}}
		o := &ReceiveOptions{Dedupe: store}
		hs := []http.Handler{recvMiddleware(o)(handler), recvMiddleware(o)(handler)}
		var first, replayed atomic.Int64
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				resp := recvServe(hs[i%2], recvRequest("k", "x"))
				if resp.StatusCode != 200 || recvText(t, resp) != "done" {
					t.Errorf("status %d", resp.StatusCode)
				}
				if resp.Header.Get(ReplayedHeader) == "" {
					first.Add(1)
				} else {
					replayed.Add(1)
				}
			})
		}
		wg.Wait()
		handler.wantRuns(t, 1)
		if first.Load() != 1 || replayed.Load() != 49 {
			t.Errorf("%d first, %d replayed", first.Load(), replayed.Load())
		}
	})
}

// The same in real time, without waiting: each answer is the first's, a replay or 409.
func TestReceiveEqualAtOnceNoWait(t *testing.T) {
	store, handler := newRecvStore(), &recvCounter{}
	h := recvMiddleware(&ReceiveOptions{Dedupe: store, Wait: -1})(handler)
	var firsts atomic.Int64
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			resp := recvServe(h, recvRequest("k", "x"))
			replayed := resp.Header.Get(ReplayedHeader) != ""
			switch {
			case resp.StatusCode == 200 && !replayed:
				firsts.Add(1)
			case resp.StatusCode == 409 && resp.Header.Get("Retry-After") != "":
			case resp.StatusCode == 200:
			default:
				t.Errorf("status %d", resp.StatusCode)
			}
		})
	}
	wg.Wait()
	handler.wantRuns(t, 1)
	if firsts.Load() != 1 {
		t.Errorf("%d answers without the replay header", firsts.Load())
	}
}

func TestReceiveDifferentUpdates(t *testing.T) {
	store, handler := newRecvStore(), &recvCounter{}
	h := recvMiddleware(&ReceiveOptions{Dedupe: store, Key: recvBodyKey})(handler)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() { recvServe(h, recvRequest("order-1", fmt.Sprintf(`{"status":%d}`, i))) })
	}
	wg.Wait()
	handler.wantRuns(t, 100)
}

// Different keys run beside each other: all handlers meet before any returns.
func TestReceiveKeysDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 20
		var inside sync.WaitGroup
		inside.Add(n)
		handler := &recvCounter{then: func(http.ResponseWriter, *http.Request) { inside.Done(); inside.Wait() }}
		h := recvMiddleware(&ReceiveOptions{Dedupe: newRecvStore()})(handler)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { recvWant(t, recvServe(h, recvRequest(fmt.Sprint(i), "x")), 200, false) })
		}
		wg.Wait()
	})
}

// A stranger cannot take or see a key before the sender does.
func TestReceiveForgedRequestTakesNoKey(t *testing.T) {
	store, handler := newRecvStore(), &recvCounter{}
	h := recvMiddleware(&ReceiveOptions{Dedupe: store})(handler)
	forged := func() *http.Response {
		r := recvRequest("k", "x")
		r.Header.Set("Signature", recvSign("y"))
		return recvServe(h, r)
	}
	recvWant(t, forged(), 401, false)
	recvWant(t, recvServe(h, recvRequest("k", "x")), 200, false)
	handler.wantRuns(t, 1)
	recvWant(t, forged(), 401, false)
	if len(store.begins) != 1 {
		t.Errorf("the store was asked %d times", len(store.begins))
	}
}

// An answer that is not success, a panic, an abort and an exit free the key at once.
func TestReceiveFailureFreesKey(t *testing.T) {
	tests := []struct {
		name   string
		rule   SuccessRule
		fail   http.HandlerFunc
		status int // 0: no answer
	}{
		{"500", SuccessRule{}, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 500) }, 500},
		{"404", SuccessRule{}, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, 404},
		{"302", SuccessRule{}, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(302) }, 302},
		{"outside the rule", SuccessRule{From: 201, To: 201}, func(http.ResponseWriter, *http.Request) {}, 200},
		{"panic", SuccessRule{}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Half", "done")
			w.WriteHeader(200)
			_, _ = io.WriteString(w, "half")
			panic("bug")
		}, 500},
		{"invalid status", SuccessRule{}, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(7) }, 500},
		{"abort", SuccessRule{}, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0},
		{"exit", SuccessRule{}, func(http.ResponseWriter, *http.Request) { runtime.Goexit() }, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			store := newRecvStore()
			handler := &recvCounter{then: tt.fail}
			h := recvMiddleware(&ReceiveOptions{Dedupe: store, Success: tt.rule, Wait: -1})(handler)
			w := httptest.NewRecorder()
			aborted, returned := recvCall(func() { h.ServeHTTP(w, recvRequest("k", "x")) })
			if want := tt.name == "abort"; aborted != want {
				t.Errorf("aborted = %v, want %v", aborted, want)
			}
			if returned != (tt.status != 0) {
				t.Errorf("returned = %v", returned)
			}
			if tt.status != 0 && w.Code != tt.status {
				t.Errorf("status %d, want %d", w.Code, tt.status)
			}
			if strings.Contains(w.Body.String(), "half") || w.Header().Get("X-Half") != "" {
				t.Error("half an answer got out")
			}
			if n := store.count("release"); n != 1 {
				t.Errorf("released %d times", n)
			}
			handler.then = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201) }
			recvWant(t, recvServe(h, recvRequest("k", "x")), 201, false)
			handler.wantRuns(t, 2)
		})
	}
}

// recvCall runs f on a goroutine of its own and tells how it ended.
func recvCall(f func()) (aborted, returned bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { aborted = recover() == http.ErrAbortHandler }()
		f()
		returned = true
	}()
	<-done
	return aborted, returned
}

// Without a store too, a panic is a 500 and never half an answer.
func TestReceivePanicWithoutDedupe(t *testing.T) {
	handler := &recvCounter{then: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200); panic("bug") }}
	log := &recvLog{}
	h := recvMiddleware(&ReceiveOptions{Logger: log.logger()})(handler)
	recvWant(t, recvServe(h, recvRequest("k", "x")), 500, false)
	if !strings.Contains(log.text(), "bug") || !strings.Contains(log.text(), "TestReceivePanicWithoutDedupe") {
		t.Errorf("the log does not tell the panic and where it was: %s", log.text())
	}
}

// Without a store every verified request runs.
func TestReceiveWithoutDedupe(t *testing.T) {
	handler := &recvCounter{}
	h := recvMiddleware(&ReceiveOptions{})(handler)
	for range 3 {
		recvWant(t, recvServe(h, recvRequest("k", "x")), 200, false)
	}
	handler.wantRuns(t, 3)
}

// A twin waits for the first and gets its answer soon after.
func TestReceiveTwinWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newRecvStore()
		handler := &recvCounter{then: func(w http.ResponseWriter, _ *http.Request) { time.Sleep(1500 * time.Millisecond) }}
		h := recvMiddleware(&ReceiveOptions{Dedupe: store})(handler)
		go recvServe(h, recvRequest("k", "x"))
		synctest.Wait()
		start := time.Now()
		recvWant(t, recvServe(h, recvRequest("k", "x")), 200, true)
		if d := time.Since(start); d < 1500*time.Millisecond || d > 1500*time.Millisecond+longestPause {
			t.Errorf("answered after %s", d)
		}
		if n := store.count("begin"); n > 15 {
			t.Errorf("asked the store %d times", n)
		}
		handler.wantRuns(t, 1)
	})
}

// When the first takes too long the twin gets a 409 that tells when to come again, never a 2xx.
func TestReceiveTwinGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var infos []SuppressedRepeatInfo
		trace := &Trace{SuppressedRepeat: func(_ context.Context, i SuppressedRepeatInfo) { infos = append(infos, i) }}
		handler := &recvCounter{then: func(w http.ResponseWriter, _ *http.Request) { time.Sleep(30 * time.Second) }}
		h := recvMiddleware(&ReceiveOptions{Dedupe: newRecvStore(), Trace: trace, Scope: "s"})(handler)
		go recvServe(h, recvRequest("k", "x"))
		synctest.Wait()
		start := time.Now()
		recvWant(t, recvServe(h, recvRequest("k", "x")), 409, false)
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("answered after %s", d)
		}
		time.Sleep(time.Minute)
		recvWant(t, recvServe(h, recvRequest("k", "x")), 200, true)
		handler.wantRuns(t, 1)
		if len(infos) != 2 || infos[0] != (SuppressedRepeatInfo{Scope: "s", Key: "k", Running: true, Status: 409}) ||
			infos[1].DoneAt.IsZero() || infos[1].Status != 200 || infos[1].Running {
			t.Errorf("trace: %+v", infos)
		}
	})
}

// When the first fails, a waiting twin takes its place.
func TestReceiveTwinTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := &recvCounter{}
		handler.then = func(w http.ResponseWriter, _ *http.Request) {
			if handler.runs.Load() == 1 {
				time.Sleep(time.Second)
				w.WriteHeader(500)
			}
		}
		h := recvMiddleware(&ReceiveOptions{Dedupe: newRecvStore()})(handler)
		go recvServe(h, recvRequest("k", "x"))
		synctest.Wait()
		recvWant(t, recvServe(h, recvRequest("k", "x")), 200, false)
		handler.wantRuns(t, 2)
	})
}

// A twin whose client has gone stops waiting.
func TestReceiveTwinHangsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := &recvCounter{then: func(http.ResponseWriter, *http.Request) { time.Sleep(10 * time.Second) }}
		h := recvMiddleware(&ReceiveOptions{Dedupe: newRecvStore()})(handler)
		go recvServe(h, recvRequest("k", "x"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		recvWant(t, recvServe(h, recvRequest("k", "x").WithContext(ctx)), 409, false)
		if d := time.Since(start); d != 100*time.Millisecond {
			t.Errorf("waited %s", d)
		}
		time.Sleep(time.Minute) // the first ends
	})
}

// A client that is gone before the handler starts changes nothing either.
func TestReceiveHandlerSurvivesClient(t *testing.T) {
	type valueKey struct{}
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), valueKey{}, "kept"))
	store := newRecvStore()
	handler := &recvCounter{then: func(w http.ResponseWriter, r *http.Request) {
		cancel()
		if r.Context().Err() != nil {
			t.Error("the handler's context ended with the client's")
		}
		if r.Context().Value(valueKey{}) != "kept" {
			t.Error("the request's values are lost")
		}
		if d, ok := r.Context().Deadline(); !ok || time.Until(d) > defaultHold {
			t.Errorf("deadline %v, %v", d, ok)
		}
		w.WriteHeader(202)
	}}
	h := recvMiddleware(&ReceiveOptions{Dedupe: store})(handler)
	recvServe(h, recvRequest("k", "x").WithContext(ctx))
	recvWant(t, recvServe(h, recvRequest("k", "x")), 202, true)
	handler.wantRuns(t, 1)
}

// When all is done the handler's context ends, and with it what the handler has left behind.
func TestReceiveContextEnds(t *testing.T) {
	for _, store := range []DedupeStore{nil, newRecvStore()} {
		var ctx context.Context
		handler := &recvCounter{then: func(_ http.ResponseWriter, r *http.Request) { ctx = r.Context() }}
		recvServe(recvMiddleware(&ReceiveOptions{Dedupe: store})(handler), recvRequest("k", "x"))
		if ctx.Err() != context.Canceled {
			t.Errorf("store %T: %v", store, ctx.Err())
		}
	}
}

// A handler that gives up on its deadline and just returns has not answered 200.
func TestReceiveHandlerDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := &recvCounter{then: func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}
		h := recvMiddleware(&ReceiveOptions{Dedupe: newRecvStore(), HandlerTimeout: 10 * time.Second})(handler)
		start := time.Now()
		recvWant(t, recvServe(h, recvRequest("k", "x")), 503, false)
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("answered after %s", d)
		}
		// The key is free. What is answered on purpose counts, late or not.
		handler.then = func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done(); w.WriteHeader(200) }
		recvWant(t, recvServe(h, recvRequest("k", "x")), 200, false)
		recvWant(t, recvServe(h, recvRequest("k", "x")), 200, true)
		handler.wantRuns(t, 2)
	})
}

// A handler that ignores its deadline loses the key when the hold ends. Whoever recorded first is what everybody is answered.
func TestReceiveHandlerOutlivesHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newRecvStore()
		handler := &recvCounter{}
		handler.then = func(w http.ResponseWriter, _ *http.Request) {
			if handler.runs.Load() == 1 {
				time.Sleep(10 * time.Minute)
				_, _ = io.WriteString(w, "slow")
				return
			}
			_, _ = io.WriteString(w, "second")
		}
		h := recvMiddleware(&ReceiveOptions{Dedupe: store, Hold: time.Minute, Wait: -1})(handler)
		var late *http.Response
		done := make(chan struct{})
		go func() { defer close(done); late = recvServe(h, recvRequest("k", "x")) }()
		time.Sleep(59 * time.Second)
		recvWant(t, recvServe(h, recvRequest("k", "x")), 409, false)
		time.Sleep(2 * time.Second)
		recvWant(t, recvServe(h, recvRequest("k", "x")), 200, false)
		<-done
		recvWant(t, late, 200, true)
		if got := recvText(t, late); got != "second" {
			t.Errorf("the late one is answered %q", got)
		}
		if n := store.count("finish"); n != 2 {
			t.Errorf("Finish was called %d times: a key that is lost is not to be tried again", n)
		}
		handler.wantRuns(t, 2)
	})
}

// The same when nobody has come in between: the late answer is recorded after all.
func TestReceiveHandlerOutlivesHoldAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := &recvCounter{then: func(w http.ResponseWriter, _ *http.Request) { time.Sleep(10 * time.Minute); w.WriteHeader(202) }}
		suppressed := 0
		trace := &Trace{SuppressedRepeat: func(context.Context, SuppressedRepeatInfo) { suppressed++ }}
		h := recvMiddleware(&ReceiveOptions{Dedupe: newRecvStore(), Hold: time.Minute, Trace: trace})(handler)
		if resp := recvServe(h, recvRequest("k", "x")); resp.StatusCode != 202 {
			t.Errorf("status %d", resp.StatusCode)
		}
		if suppressed != 0 {
			t.Error("the request that ran was called a repeat")
		}
		recvWant(t, recvServe(h, recvRequest("k", "x")), 202, true)
		handler.wantRuns(t, 1)
	})
}

// After Keep a key is new.
func TestReceiveKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := &recvCounter{}
		h := recvMiddleware(&ReceiveOptions{Dedupe: newRecvStore()})(handler)
		// Gett's whole schedule, and the longest of the others, is answered from memory.
		recvServe(h, recvRequest("k", "x"))
		for _, d := range []time.Duration{30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour, 64 * time.Hour} {
			time.Sleep(d)
			recvWant(t, recvServe(h, recvRequest("k", "x")), 200, true)
		}
		time.Sleep(2 * time.Hour)
		recvWant(t, recvServe(h, recvRequest("k", "x")), 200, false)
		handler.wantRuns(t, 2)
	})
}

// A key with a digest remembers the latest content only.
func TestReceiveDigestKey(t *testing.T) {
	handler := &recvCounter{}
	h := recvMiddleware(&ReceiveOptions{Dedupe: newRecvStore(), Key: recvDigestKey})(handler)
	for _, step := range []struct {
		body     string
		replayed bool
	}{{"confirmed", false}, {"confirmed", true}, {"review", false}, {"confirmed", false}, {"confirmed", true}} {
		recvWant(t, recvServe(h, recvRequest("order", step.body)), 200, step.replayed)
	}
	handler.wantRuns(t, 3)
}

func TestReceiveTracePanics(t *testing.T) {
	log := &recvLog{}
	trace := &Trace{SuppressedRepeat: func(context.Context, SuppressedRepeatInfo) { panic("bug in the hook") }}
	h := recvMiddleware(&ReceiveOptions{Dedupe: newRecvStore(), Trace: trace, Logger: log.logger()})(&recvCounter{})
	recvServe(h, recvRequest("k", "x"))
	recvWant(t, recvServe(h, recvRequest("k", "x")), 200, true)
	if !strings.Contains(log.text(), "bug in the hook") {
		t.Errorf("log: %s", log.text())
	}
}
