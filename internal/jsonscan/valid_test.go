package jsonscan

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
)

// sample is a body as one arrives.
const sample = `{"event_type": "order_update", "order_id": 1234567, "note": "caf\u00e9 \"é\"", "stops": [{"lat": 51.5, "lng": -0.12, "done": true}, {}], "fee": null}`

var validCases = []string{
	"", " ", "{}", "[]", " { } ", "[ ]", `""`, "0", "-0", "01", "-", "1.", ".5", "1.5", "1e", "1e5", "1E+5", "1e-", "0e0", "-0.0e-0", "00", "1 2", "+1",
	"true", "tru", "truer", "null", "nul", "false", "fals", "True", `{"a":1}`, `{"a":1,}`, `{,"a":1}`, `{"a" 1}`, `{"a"}`, `{"a":}`, `{a:1}`, `{"a":1 "b":2}`,
	`{"a":1,"b":2}`, `{"a":1;"b":2}`, "[1,2]", "[1,]", "[,]", "[,1]", "[1 2]", "[1}", `{"a":1]`, "]", "}", "[", "{", `{"a":[{"b":[]},{}]}`, "{}{}", "{} x", "[[]]]",
	`"\n\t\"\\\/\b\f\r"`, `"\x"`, `"\u00e9"`, `"\u00g9"`, `"\u00E"`, `"\u`, `"\`, `"`, `"abcdefgh`, `"abcdefghijklmnop"`, "\"abc\x1fdefgh\"", "\"\x7f\"", "\"\x00\"",
	"\"abcdefg\nhijklmn\"", "\"\xff\xfe\x80abcdefghijk\"", "\"é世界🚚é世界🚚\"", "\x00", "{\"a\":1}\x00", "{\"a\x00\":1}", "\xef\xbb\xbf{}", "\t\r\n{}\v", "[1,2,3e2,-4.5E-7, true , null]",
	strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000), strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001),
	strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000), strings.Repeat(`{"a":`, 10_001) + "1" + strings.Repeat("}", 10_001),
}

func checkValid(t *testing.T, data []byte) {
	t.Helper()
	if got, want := Valid(data), json.Valid(data); got != want {
		t.Fatalf("%.200q: %v, encoding/json says %v", data, got, want)
	}
}

// Whatever is in a body, Valid says what encoding/json says.
func TestValid(t *testing.T) {
	for _, text := range validCases {
		checkValid(t, []byte(text))
	}
	seeds := append([]string{sample}, validCases[:len(validCases)-4]...)
	const bytes = "{}[]:,\"\\ \n\t\r0123456789.eE+-truefalsn/bux\x00\x1f\x7f\x80\xff"
	random := rand.New(rand.NewPCG(3, 4))
	for range 200_000 {
		data := []byte(seeds[random.IntN(len(seeds))])
		for range 1 + random.IntN(3) {
			if len(data) == 0 {
				break
			}
			i := random.IntN(len(data))
			switch random.IntN(3) {
			case 0:
				data[i] = bytes[random.IntN(len(bytes))]
			case 1:
				data = append(data[:i], data[i+1:]...)
			default:
				data = append(data[:i], append([]byte{bytes[random.IntN(len(bytes))]}, data[i:]...)...)
			}
		}
		checkValid(t, data)
	}
}

func FuzzValid(f *testing.F) {
	for _, text := range validCases {
		f.Add([]byte(text))
	}
	f.Add([]byte(sample))
	f.Fuzz(func(t *testing.T, data []byte) { checkValid(t, data) })
}
