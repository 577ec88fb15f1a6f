package main

import (
	"strings"
	"testing"
)

func TestPrinter(t *testing.T) {
	const in = `{"Action":"build-output","ImportPath":"p [p.test]","Output":"p/a.go:1: broken\n"}
{"Action":"run","Package":"p","Test":"TestGood"}
{"Action":"output","Package":"p","Test":"TestGood","Output":"=== RUN   TestGood\n"}
{"Action":"output","Package":"p","Test":"TestGood","Output":"    a_test.go:5: of no interest\n"}
{"Action":"pass","Package":"p","Test":"TestGood"}
{"Action":"output","Package":"p","Test":"TestBad","Output":"    a_test.go:6: wrong\n"}
{"Action":"output","Package":"p","Test":"TestBad","Output":"--- FAIL: TestBad (0.00s)\n"}
{"Action":"fail","Package":"p","Test":"TestBad"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    a_test.go:7: no database: install it\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"--- SKIP: TestB (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    b_test.go:70: no database: install it\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"skip","Package":"p","Test":"TestSilent"}
not an event
{"Action":"output","Package":"p","Test":"TestHangs","Output":"panic: test timed out\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}
{"Action":"output","Package":"q","Output":"PASS\n"}
{"Action":"output","Package":"q","Output":"ok  \tq\t0.2s\n"}
{"Action":"pass","Package":"q"}
{"Action":"skip","Package":"r"}
`
	const want = `p/a.go:1: broken
    a_test.go:6: wrong
--- FAIL: TestBad (0.00s)
not an event
FAIL	p	0.1s
panic: test timed out
ok  	q	0.2s

Skipped:
  no database: install it
    p.TestA
    p.TestB
  no reason given
    p.TestSilent

1 passed, 1 failed, 3 skipped
`
	var got strings.Builder
	p := printer{w: &got, output: make(map[testID][]string), skipped: make(map[string][]string), count: make(map[string]int)}
	if err := p.read(strings.NewReader(in)); err != nil {
		t.Fatal(err)
	}
	p.summary()
	if got.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", &got, want)
	}
}
