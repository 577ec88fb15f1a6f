package jsonscan

import "encoding/binary"

// maxDepth is encoding/json's.
const maxDepth = 10_000

// Valid is json.Valid in a fraction of the time: every body whose key is in it passes here, and is mostly strings.
func Valid(data []byte) bool {
	var room [32]byte
	open := room[:0] // what closes the objects and arrays that are open
	s := scanner{data: data}
	for {
		switch s.space(); s.peek() {
		case '{', '[':
			closer := data[s.pos] + 2 // in ASCII
			if s.pos++; len(open) == maxDepth {
				return false
			}
			open = append(open, closer)
			if s.space(); s.peek() != closer {
				if closer == '}' && !s.validName() {
					return false
				}
				continue
			}
		case '"':
			if !s.validString() {
				return false
			}
		default:
			if !s.validScalar() {
				return false
			}
		}
		// A value is over, or something empty is about to be.
		for s.space(); len(open) > 0 && s.peek() == open[len(open)-1]; s.space() {
			s.pos++
			open = open[:len(open)-1]
		}
		switch {
		case len(open) == 0:
			return s.pos == len(data)
		case s.peek() != ',':
			return false
		}
		s.pos++
		if s.space(); open[len(open)-1] == '}' && !s.validName() {
			return false
		}
	}
}

// peek is the next byte; at the end 0, which nothing in JSON may be.
func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

// validName passes an object's name and the colon after it.
func (s *scanner) validName() bool {
	if s.peek() != '"' || !s.validString() {
		return false
	}
	s.space()
	if s.peek() != ':' {
		return false
	}
	s.pos++
	return true
}

// validString passes a string. Like encoding/json it takes bytes that are no UTF-8.
func (s *scanner) validString() bool {
	for s.pos++; ; {
		s.plain()
		switch s.peek() {
		case '"':
			s.pos++
			return true
		case '\\':
			if s.pos++; !s.validEscape() {
				return false
			}
		default:
			return false
		}
	}
}

func (s *scanner) validEscape() bool {
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.pos++
		return true
	case 'u':
		for range 4 {
			if s.pos++; !isHexDigit(s.peek()) {
				return false
			}
		}
		s.pos++
		return true
	}
	return false
}

// plain passes all that stands for itself in a string: what is no quote, backslash or control character.
func (s *scanner) plain() {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	for ; len(s.data)-s.pos >= 8; s.pos += 8 {
		// A byte minus n has its high bit set, and the byte has not, if and only if the byte is below n, up to the first such byte.
		w := binary.LittleEndian.Uint64(s.data[s.pos:])
		quote, backslash := w^'"'*ones, w^'\\'*ones
		if ((w-' '*ones)&^w|(quote-ones)&^quote|(backslash-ones)&^backslash)&high != 0 {
			break
		}
	}
	for s.pos < len(s.data) {
		if c := s.data[s.pos]; c < ' ' || c == '"' || c == '\\' {
			return
		}
		s.pos++
	}
}

// validScalar passes a number, true, false or null.
func (s *scanner) validScalar() bool {
	for _, word := range []string{"true", "false", "null"} {
		if end := s.pos + len(word); end <= len(s.data) && string(s.data[s.pos:end]) == word {
			s.pos = end
			return true
		}
	}
	if s.peek() == '-' {
		s.pos++
	}
	if s.peek() == '0' {
		s.pos++
	} else if !s.digits() {
		return false
	}
	if s.peek() == '.' {
		if s.pos++; !s.digits() {
			return false
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		return s.digits()
	}
	return true
}

// digits passes at least one digit.
func (s *scanner) digits() bool {
	start := s.pos
	for '0' <= s.peek() && s.peek() <= '9' {
		s.pos++
	}
	return s.pos > start
}

func isHexDigit(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
