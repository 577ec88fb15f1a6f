package memstore

import (
	"iter"
	"slices"
)

// chunkMax is how many elements a chunk holds at most. With a million elements an insertion moves a few kilobytes and the
// list of chunks has a few thousand entries.
const chunkMax = 512

// sorted is an ordered set kept in sorted chunks. Finding, inserting and removing are two binary searches and a short move;
// the smallest element and the walk from any element cost nothing more. Elements must be unique under cmp, and
// what cmp reads of an element must not change while it is in the set.
type sorted[T any] struct {
	cmp    func(a, b T) int
	chunks [][]T // none is empty
	n      int
	spare  []T // the chunk that was emptied last, for a set that has few elements and often none

	walked int // elements that walks have come by; tests of cost read it
}

// find gives the place of the first element that is not below v, and whether it equals v. The chunk may be
// len(s.chunks), when every element is below v.
func (s *sorted[T]) find(v T) (chunk, pos int, found bool) {
	chunk, _ = slices.BinarySearchFunc(s.chunks, v, func(c []T, v T) int { return s.cmp(c[len(c)-1], v) })
	if chunk == len(s.chunks) {
		return chunk, 0, false
	}
	pos, found = slices.BinarySearchFunc(s.chunks[chunk], v, s.cmp)
	return chunk, pos, found
}

// insert adds v and reports whether it was not there yet.
func (s *sorted[T]) insert(v T) bool {
	i, pos, found := s.find(v)
	if found {
		return false
	}
	s.n++
	if i == len(s.chunks) {
		if i == 0 || len(s.chunks[i-1]) == chunkMax {
			s.chunks = append(s.chunks, append(s.spare, v))
			s.spare = nil
			return true
		}
		i--
		pos = len(s.chunks[i])
	}
	c := slices.Insert(s.chunks[i], pos, v)
	s.chunks[i] = c
	if len(c) > chunkMax {
		half := slices.Clone(c[chunkMax/2:])
		clear(c[chunkMax/2:])
		s.chunks[i] = c[:chunkMax/2]
		s.chunks = slices.Insert(s.chunks, i+1, half)
	}
	return true
}

// remove takes v out and reports whether it was there.
func (s *sorted[T]) remove(v T) bool {
	i, pos, found := s.find(v)
	if !found {
		return false
	}
	s.n--
	c := s.chunks[i]
	if len(c) == 1 {
		clear(c)
		c = c[:0]
		s.spare = c
	} else if pos == 0 { // taking from the front is the common case: claims, history
		clear(c[:1])
		c = c[1:]
	} else {
		c = slices.Delete(c, pos, pos+1)
	}
	s.chunks[i] = c
	switch {
	case len(c) == 0:
		s.chunks = slices.Delete(s.chunks, i, i+1)
	case i+1 < len(s.chunks) && len(c)+len(s.chunks[i+1]) <= chunkMax/2:
		s.chunks[i] = append(c, s.chunks[i+1]...)
		s.chunks = slices.Delete(s.chunks, i+1, i+2)
	}
	return true
}

// first is the smallest element.
func (s *sorted[T]) first() (v T, ok bool) {
	if len(s.chunks) == 0 {
		return v, false
	}
	return s.chunks[0][0], true
}

// back walks all elements, the greatest first. The set must not change meanwhile.
func (s *sorted[T]) back() iter.Seq[T] { return s.backFrom(len(s.chunks), 0) }

// below walks the elements that are below v, the greatest first. The set must not change meanwhile.
func (s *sorted[T]) below(v T) iter.Seq[T] {
	i, pos, _ := s.find(v)
	return s.backFrom(i, pos)
}

// backFrom walks backwards the elements before a place.
func (s *sorted[T]) backFrom(chunk, pos int) iter.Seq[T] {
	return func(yield func(T) bool) {
		for i := chunk; i >= 0; i-- {
			var c []T
			switch {
			case i == chunk && i < len(s.chunks):
				c = s.chunks[i][:pos]
			case i < chunk:
				c = s.chunks[i]
			}
			for _, e := range slices.Backward(c) {
				s.walked++
				if !yield(e) {
					return
				}
			}
		}
	}
}

// from walks the elements that are not below v, in order. The set must not change meanwhile.
func (s *sorted[T]) from(v T) iter.Seq[T] {
	return func(yield func(T) bool) {
		i, pos, _ := s.find(v)
		for ; i < len(s.chunks); i, pos = i+1, 0 {
			for _, e := range s.chunks[i][pos:] {
				s.walked++
				if !yield(e) {
					return
				}
			}
		}
	}
}
