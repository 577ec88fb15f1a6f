package webhook

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// A counter counts the repeats of all routes that share it: those answered from the record and those that met a running twin. First
// requests, refusals and requests without a counter do not count.
func TestRepeatCounter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var repeats RepeatCounter
		if got := repeats.Read(); got != (RepeatCounts{}) {
			t.Errorf("before anything came: %+v", got)
		}
		store := newRecvStore()
		slow := &recvCounter{then: func(http.ResponseWriter, *http.Request) { time.Sleep(30 * time.Second) }}
		one := recvMiddleware(&ReceiveOptions{Dedupe: store, Repeats: &repeats, Scope: "one"})(&recvCounter{})
		two := recvMiddleware(&ReceiveOptions{Dedupe: store, Repeats: &repeats, Scope: "two"})(slow)
		uncounted := recvMiddleware(&ReceiveOptions{Dedupe: store, Scope: "one"})(&recvCounter{})
		failing := recvMiddleware(&ReceiveOptions{Dedupe: store, Repeats: &repeats, Scope: "three"})(
			&recvCounter{then: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }})
		for range 3 {
			recvServe(one, recvRequest("k", "x"))
			recvServe(failing, recvRequest("k", "x"))
		}
		recvServe(one, recvRequest("other", "x"))
		recvServe(uncounted, recvRequest("k", "x"))
		go recvServe(two, recvRequest("k", "x"))
		synctest.Wait()
		recvServe(two, recvRequest("k", "x"))
		if got, want := repeats.Read(), (RepeatCounts{Answered: 2, Running: 1, Last: time.Now()}); got.Answered != want.Answered ||
			got.Running != want.Running || !got.Last.Equal(want.Last) {
			t.Errorf("%+v, want %+v", got, want)
		}
		time.Sleep(time.Minute)
	})
}
