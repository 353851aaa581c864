package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// proofLife is how long a proof is good for: it is used at once. It begins and ends
// with an hour to spare, for clocks that differ.
const proofLife = time.Hour

// maxCode bounds a hub's verification code: a subject's CN has no more. Source: RFC
// 5280, ub-common-name.
const maxCode = 64

const pemCertificate = "CERTIFICATE"

// caFile is a CA's certificate, and its key where that is at hand.
type caFile struct {
	pem  string
	cert *x509.Certificate
	key  crypto.Signer // nil when it is elsewhere
}

// readCA reads a CA's certificate and, unless its name is "", its key.
func (a *app) readCA(file, keyFile string) (caFile, error) {
	text, err := readCertificate(file)
	if err != nil {
		return caFile{}, err
	}
	block, _ := pem.Decode([]byte(text))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return caFile{}, usage("%s: %w", file, err)
	}
	if !cert.BasicConstraintsValid || !cert.IsCA {
		e := usage("%s is not the certificate of a CA", file)
		e.hint = "a CA's has the basic constraint CA:TRUE, as those of \"openssl req -x509\" do"
		return caFile{}, e
	}
	ca := caFile{pem: text, cert: cert}
	if keyFile == "" {
		return ca, nil
	}
	if ca.key, err = a.readKey(keyFile); err != nil {
		return caFile{}, err
	}
	public, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(ca.key.Public()) {
		return caFile{}, usage("%s is not the key of %s", keyFile, file)
	}
	return ca, nil
}

// readCertificate reads a file with exactly one certificate and returns it as PEM
// without what people write around it.
func readCertificate(file string) (string, error) {
	text, err := readPublicFile(file)
	if err != nil {
		return "", err
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != pemCertificate {
		return "", usage("%s has no certificate in PEM", file)
	}
	if more, _ := pem.Decode(rest); more != nil {
		return "", usage("%s has more than one certificate", file)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: block.Bytes})), nil
}

// readKey reads a private key: PKCS#8, PKCS#1 or SEC 1, as openssl writes them.
func (a *app) readKey(file string) (crypto.Signer, error) {
	text, err := a.readSecretFile(file)
	if err != nil {
		return nil, err
	}
	if err := refuseEncrypted(file, text); err != nil {
		return nil, err
	}
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, usage("%s has no private key in PEM", file)
		}
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue // openssl writes an EC key's parameters before it
		}
		key, err := parsePrivateKey(block)
		if err != nil {
			return nil, usage("key %s: %w", file, err)
		}
		return key, nil
	}
}

func parsePrivateKey(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, errors.New("cannot be read") // crypto/x509 speaks of Go functions
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("is of a kind that cannot sign")
	}
	return signer, nil
}

// validCode reports whether a hub's verification code is one: letters, digits and "-".
func validCode(code string) bool {
	return code != "" && len(code) <= maxCode && !strings.ContainsFunc(code, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-'
	})
}

// prove makes the certificate that shows the hub that the CA's key is here.
func (ca caFile) prove(code string) (string, error) {
	if !validCode(code) {
		return "", errors.New("the hub's verification code " + quote(code) + " has characters that no code has")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(now.UnixNano()),
		Subject:               pkix.Name{CommonName: code},
		NotBefore:             now.Add(-proofLife),
		NotAfter:              now.Add(proofLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return "", fmt.Errorf("sign the proof: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der})), nil
}
