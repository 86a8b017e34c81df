package nts

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
)

const (
	keySize  = 32 // octets of a C2S or S2C key (RFC 5297: AES-128 twice)
	tagSize  = aes.BlockSize
	maxInput = 4096 // octets of associated data, and of text: far above any NTP message
)

// siv is AEAD_AES_SIV_CMAC_256 (RFC 5297, number 15 of RFC 5116's registry)
// under one key. It has one user at a time.
//
// The CMAC runs through crypto/cipher's CBC, a whole message per call. A CBC
// can't be rewound, but it is known what it will XOR to its next block: chain,
// which XORed to that block once more is gone.
type siv struct {
	cbc    cipher.BlockMode
	chain  [aes.BlockSize]byte
	k1, k2 [aes.BlockSize]byte // CMAC's subkeys (RFC 4493 section 2.3)
	zero   [aes.BlockSize]byte // CMAC of a block of zeros, where S2V begins (RFC 5297 section 2.4)
	ctr    cipher.Block
}

// scratch is room that the users of one goroutine share. Slices of a local array
// would escape through the interfaces of crypto/cipher.
type scratch struct {
	text    [maxInput + aes.BlockSize]byte // where CMAC works
	d       [aes.BlockSize]byte            // where S2V works, and its result
	counter [aes.BlockSize]byte
	stream  [aes.BlockSize]byte
	nonce   [nonceSize]byte // of the field being made
}

// newSIV takes a key of keySize octets and keeps nothing of it.
func newSIV(key []byte, sc *scratch) (*siv, error) {
	mac, err := aes.NewCipher(key[:keySize/2])
	if err != nil {
		return nil, err
	}
	ctr, err := aes.NewCipher(key[keySize/2 : keySize])
	if err != nil {
		return nil, err
	}
	s := &siv{ctr: ctr}
	s.cbc = cipher.NewCBCEncrypter(mac, s.chain[:])
	mac.Encrypt(s.k1[:], s.k1[:])
	double(&s.k1)
	s.k2 = s.k1
	double(&s.k2)
	clear(sc.text[:aes.BlockSize])
	s.cmac(sc, aes.BlockSize)
	s.zero = s.chain
	return s, nil
}

// double multiplies by x in GF(2^128): dbl() of RFC 5297 section 2.3.
func double(b *[aes.BlockSize]byte) {
	carry := b[0] >> 7
	for i := range len(b) - 1 {
		b[i] = b[i]<<1 | b[i+1]>>7
	}
	b[len(b)-1] = b[len(b)-1]<<1 ^ carry*0x87
}

// cmac leaves the CMAC (RFC 4493) of sc.text[:n] in s.chain and destroys the text.
func (s *siv) cmac(sc *scratch, n int) {
	key := &s.k1
	if n == 0 || n%aes.BlockSize != 0 {
		sc.text[n] = 0x80
		end := n/aes.BlockSize*aes.BlockSize + aes.BlockSize
		clear(sc.text[n+1 : end])
		n, key = end, &s.k2
	}
	text := sc.text[:n]
	last := text[n-aes.BlockSize:]
	subtle.XORBytes(last, last, key[:])
	subtle.XORBytes(text, text[:aes.BlockSize], s.chain[:])
	s.cbc.CryptBlocks(text, text)
	s.chain = [aes.BlockSize]byte(last)
}

// s2v puts the synthetic IV of ad and text into sc.d (RFC 5297 section 2.4); a
// nonce is the last of the associated data (section 3).
func (s *siv) s2v(sc *scratch, text []byte, ad ...[]byte) {
	sc.d = s.zero
	for _, a := range ad {
		double(&sc.d)
		s.cmac(sc, copy(sc.text[:maxInput], a))
		subtle.XORBytes(sc.d[:], sc.d[:], s.chain[:])
	}
	n := copy(sc.text[:maxInput], text)
	if n < aes.BlockSize {
		double(&sc.d)
		sc.text[n] = 0x80
		clear(sc.text[n+1 : aes.BlockSize])
		n = aes.BlockSize
	}
	end := sc.text[n-aes.BlockSize : n]
	subtle.XORBytes(end, end, sc.d[:])
	s.cmac(sc, n)
	sc.d = s.chain
}

// crypt XORs text with the stream that begins at IV tag (RFC 5297 section 2.5).
func (s *siv) crypt(sc *scratch, tag, text []byte) {
	copy(sc.counter[:], tag)
	sc.counter[8] &= 0x7f
	sc.counter[12] &= 0x7f
	for len(text) > 0 {
		s.ctr.Encrypt(sc.stream[:], sc.counter[:])
		text = text[subtle.XORBytes(text, text, sc.stream[:]):]
		for i := len(sc.counter) - 1; i >= 0; i-- {
			sc.counter[i]++
			if sc.counter[i] != 0 {
				break
			}
		}
	}
}

// seal encrypts text in place and writes its tag. False: an input is longer than
// maxInput.
func (s *siv) seal(sc *scratch, tag *[tagSize]byte, text []byte, ad ...[]byte) bool {
	if !fits(text, ad) {
		return false
	}
	s.s2v(sc, text, ad...)
	*tag = sc.d
	s.crypt(sc, tag[:], text)
	return true
}

// open decrypts text in place. False: it isn't authentic, and text is now
// worthless.
func (s *siv) open(sc *scratch, tag, text []byte, ad ...[]byte) bool {
	if len(tag) != tagSize || !fits(text, ad) {
		return false
	}
	s.crypt(sc, tag, text)
	s.s2v(sc, text, ad...)
	if subtle.ConstantTimeCompare(tag, sc.d[:]) != 1 {
		clear(text)
		return false
	}
	return true
}

func fits(text []byte, ad [][]byte) bool {
	longest := len(text)
	for _, a := range ad {
		longest = max(longest, len(a))
	}
	return longest <= maxInput
}
