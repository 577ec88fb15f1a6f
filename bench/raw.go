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
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	benchSecret = "3f5a9c1e7b2d4860a1c3e5f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b"
)

// postRaw posts signed requests with net/http from several goroutines: the same bytes and headers that the library sends, and no store.
func postRaw(url string, bodies [][]byte, senders int) error {
	tr := &http.Transport{MaxIdleConns: senders, MaxIdleConnsPerHost: senders, DisableCompression: true}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, Timeout: 30 * time.Second}
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, senders)
	for range senders {
		wg.Go(func() {
			mac := hmac.New(sha256.New, []byte(benchSecret))
			for i := next.Add(1); i <= int64(len(bodies)); i = next.Add(1) {
				if err := postOne(client, mac, url, bodies[i-1]); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

func postOne(client *http.Client, mac hash.Hash, url string, body []byte) error {
	req, err := http.NewRequest("POST", url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	mac.Reset()
	mac.Write(body)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "bench")
	req.Header.Set("Signature", hex.EncodeToString(mac.Sum(nil)))
	req.Header.Set("Timestamp", strconv.FormatInt(time.Now().Unix(), 10))
	req.Header.Set("API-Version", "2026-01-30")
	res, err := client.Do(req)
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
