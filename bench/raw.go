package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"
)

const (
	benchSecret = "3f5a9c1e7b2d4860a1c3e5f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b"
)

// poster posts signed requests with net/http: the same bytes and headers that the library sends. It is what a service would
// write for itself, and what every peer posts with.
type poster struct {
	client *http.Client
	macs   sync.Pool
}

// newPoster is one that keeps so many connections.
func newPoster(connections int) *poster {
	return &poster{
		client: &http.Client{
			Transport: &http.Transport{MaxIdleConns: connections, MaxIdleConnsPerHost: connections, DisableCompression: true},
			Timeout:   30 * time.Second,
		},
		macs: sync.Pool{New: func() any { return hmac.New(sha256.New, []byte(benchSecret)) }},
	}
}

func (p *poster) close() { p.client.CloseIdleConnections() }

// request is a signed one.
func (p *poster) request(url string, body []byte) (*http.Request, error) {
	req, err := http.NewRequest("POST", url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	mac := p.macs.Get().(hash.Hash)
	mac.Reset()
	mac.Write(body)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "bench")
	req.Header.Set("Signature", hex.EncodeToString(mac.Sum(nil)))
	req.Header.Set("Timestamp", strconv.FormatInt(time.Now().Unix(), 10))
	req.Header.Set("API-Version", "2026-01-30")
	p.macs.Put(mac)
	return req, nil
}

func (p *poster) post(url string, body []byte) error {
	req, err := p.request(url, body)
	if err != nil {
		return err
	}
	res, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("receiver answered %s", res.Status)
	}
	return nil
}

// postRaw posts bodies from several goroutines, without any store.
func postRaw(url string, bodies [][]byte, senders int) error {
	p := newPoster(senders)
	defer p.close()
	return sendMany(0, len(bodies), senders, func(i int) error { return p.post(url, bodies[i]) })
}

// rawRow is the row of net/http in every table that has it.
const rawRow = "net/http, no store"

// rawLimit measures how fast bodies are posted: requests a second, and our processor time.
func rawLimit(r *receiver, t *table, row, url string, n, senders int, post func(url string, bodies [][]byte, senders int) error) (float64, error) {
	bodies := make([][]byte, n)
	for i := range bodies {
		bodies[i] = makePayload(i)
	}
	runtime.GC()
	used, began := cpu(), time.Now()
	if err := post(url, bodies, senders); err != nil {
		return 0, err
	}
	took, used := time.Since(began), cpu()-used
	if _, err := r.await(n, phaseLimit); err != nil {
		return 0, err
	}
	rate := float64(n) / took.Seconds()
	t.add(row, drainColumn, rate)
	t.add(row, cpuColumn, used.Seconds()/float64(n)*1000)
	return rate, nil
}
