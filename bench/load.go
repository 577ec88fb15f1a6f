package main

import (
	"sync"
	"sync/atomic"
	"time"
)

// sendMany calls send with n numbers from first on, from several goroutines, each one at a time. It returns the first error.
func sendMany(first, n, goroutines int, send func(number int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, goroutines)
	for range goroutines {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := send(first + i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

// sendSteadily calls send with n numbers from first on, lightRate a second, each in a goroutine of its own.
func sendSteadily(first, n int, send func(number int) error) error {
	tick := time.NewTicker(time.Second / lightRate)
	defer tick.Stop()
	var wg sync.WaitGroup
	errs := make(chan error, n)
	for i := range n {
		<-tick.C
		wg.Go(func() {
			if err := send(first + i); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}
