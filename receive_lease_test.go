package webhook

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

func newLateContext(parent context.Context, d time.Duration) *lateContext {
	x := &received{}
	x.ctx = receivedContext{Context: context.WithoutCancel(parent), x: x}
	return x.handlerContext(time.Now().Add(d))
}

func isDone(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

// Whether it is asked for Err alone, for Done at first, or for Done at the end: it says the same.
func TestLateContextIsAContext(t *testing.T) {
	for _, early := range []bool{false, true} {
		for _, tc := range []struct {
			name string
			end  func(c *lateContext)
			want error
		}{
			{"deadline", func(*lateContext) { time.Sleep(time.Minute) }, context.DeadlineExceeded},
			{"cancel", func(c *lateContext) { c.cancel() }, context.Canceled},
			{"cancel, then deadline", func(c *lateContext) { c.cancel(); time.Sleep(time.Hour) }, context.Canceled},
			{"deadline, then cancel", func(c *lateContext) { time.Sleep(time.Minute); synctest.Wait(); _ = c.Err(); c.cancel() }, context.DeadlineExceeded},
			{"armed", func(c *lateContext) { c.arm(time.Now().Add(time.Second)); time.Sleep(time.Second) }, context.Canceled},
			{"armed again", func(c *lateContext) {
				c.arm(time.Now().Add(time.Second))
				c.disarm()
				c.arm(time.Now().Add(time.Second))
				time.Sleep(time.Second)
			}, context.Canceled},
			{"disarmed", func(c *lateContext) { c.arm(time.Now().Add(time.Second)); c.disarm(); time.Sleep(50 * time.Second) }, nil},
		} {
			synctest.Test(t, func(t *testing.T) {
				c := newLateContext(t.Context(), time.Minute)
				defer c.cancel()
				if early && isDone(c) || c.Err() != nil {
					t.Fatal("it begins at its end")
				}
				tc.end(c)
				synctest.Wait()
				if err := c.Err(); err != tc.want {
					t.Errorf("%s, Done first %v: Err %v, want %v", tc.name, early, err, tc.want)
				}
				if isDone(c) != (tc.want != nil) || c.Err() != tc.want || context.Cause(c) != tc.want {
					t.Errorf("%s, Done first %v: Done %v, Err %v, Cause %v", tc.name, early, isDone(c), c.Err(), context.Cause(c))
				}
			})
		}
	}
}

func TestLateContextDisarmTellsWhatItMissed(t *testing.T) {
	for _, ask := range []func(c *lateContext){func(c *lateContext) { c.Done() }, func(c *lateContext) {}} {
		synctest.Test(t, func(t *testing.T) {
			c := newLateContext(t.Context(), time.Minute)
			defer c.cancel()
			c.arm(time.Now().Add(time.Second))
			ask(c)
			time.Sleep(999 * time.Millisecond)
			if !c.disarm() || c.Err() != nil {
				t.Error("disarmed in time, it ended")
			}
			c.arm(time.Now().Add(time.Second))
			time.Sleep(2 * time.Second)
			ended := c.Err() != nil
			if c.disarm() == ended || !ended {
				t.Errorf("disarm says it was in time, and the context has ended: %v", ended)
			}
		})
	}
}

// Contexts below it end with it, without a goroutine each; the client's end is none of its own, and the client's values are.
func TestLateContextHasContextsBelow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		client, hangUp := context.WithCancelCause(context.WithValue(t.Context(), key{}, "value"))
		c := newLateContext(client, time.Minute)
		before := runtime.NumGoroutine()
		below, cancel := context.WithCancel(c)
		defer cancel()
		if n := runtime.NumGoroutine(); n != before {
			t.Errorf("a context below costs %d goroutines", n-before)
		}
		hangUp(errors.New("gone"))
		synctest.Wait()
		if below.Err() != nil || c.Err() != nil || context.Cause(c) != nil {
			t.Error("the client's end is the handler's")
		}
		if below.Value(key{}) != "value" || receivedFrom(below) == nil {
			t.Error("values are lost")
		}
		c.cancel()
		synctest.Wait()
		if below.Err() != context.Canceled {
			t.Errorf("below: %v", below.Err())
		}
	})
}
