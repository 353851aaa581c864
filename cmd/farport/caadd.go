package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/farportio/farport/hubclient"
)

type caAddOptions struct {
	deviceOptions
	key, proof string
}

func (o *caAddOptions) addFlags(flags *pflag.FlagSet) {
	o.deviceOptions.addFlags(flags)
	flags.StringVar(&o.key, "key", "", "the CA's key in PEM `FILE`; it signs the proof here and is not sent; - is standard input")
	flags.StringVar(&o.proof, "proof", "", "a certificate in PEM `FILE` that the CA has signed for the hub's code")
	exclusive(flags, "key", "proof")
}

func newCAAdd(a *app) *cobra.Command {
	var o caAddOptions
	cmd := &cobra.Command{
		Use:   "add FILE",
		Short: "Let a CA vouch for devices",
		Long: `Registers the CA whose certificate is in FILE. Only who has the CA's key can: the hub
names a code, and wants a certificate with that code as its subject's CN that the CA
has signed.

With --key all of that is done at once, on this machine. Where the key is elsewhere,
"ca add FILE" prints the code and how to make the proof with openssl, and --proof
completes it.`,
		Example: `  farport ca add ca.pem --key ca.key
  farport ca add ca.pem
  farport ca add ca.pem --proof proof.pem`,
		Args:        arguments("FILE"),
		Annotations: exitStatus(exitsOfCA...),
		RunE:        func(cmd *cobra.Command, args []string) error { return runCAAdd(cmd.Context(), a, o, args[0]) },
	}
	o.addFlags(cmd.Flags())
	completeOutput(cmd)
	return cmd
}

func runCAAdd(ctx context.Context, a *app, o caAddOptions, file string) error {
	ca, err := a.readCA(file, o.key)
	if err != nil {
		return err
	}
	proposal := hubclient.CAProposal{Certificate: ca.pem}
	if o.proof != "" {
		if proposal.Proof, err = readCertificate(o.proof); err != nil {
			return err
		}
	}
	return a.operate(ctx, &o.deviceOptions, func(hub *hubclient.Service, _ hubclient.ConnectionString) error {
		answer, err := hub.RegisterCA(ctx, proposal)
		if err != nil {
			return err
		}
		if ca.key != nil && answer.VerificationCode != "" {
			if proposal.Proof, err = ca.prove(answer.VerificationCode); err != nil {
				return err
			}
			if answer, err = hub.RegisterCA(ctx, proposal); err != nil {
				return err
			}
		}
		if answer.VerificationCode != "" {
			return a.askForProof(o, file, answer)
		}
		a.term.notice("CA %s: vouches for devices", answer.Fingerprint)
		return a.printCA(o.outputOptions, answer)
	})
}

// askForProof prints the code, and how to go on from there.
func (a *app) askForProof(o caAddOptions, file string, answer hubclient.CA) error {
	code := answer.VerificationCode
	if o.proof != "" {
		return &codedError{exitFailed, "make one for the code that \"farport ca add " + file + "\" prints", errors.New("the hub wants another proof")}
	}
	if !validCode(code) { // it becomes part of a command
		return errors.New("the hub's verification code " + quote(code) + " has characters that no code has")
	}
	err := a.term.result(o.outputOptions, answer, func() error {
		a.term.println(code)
		return nil
	})
	if err != nil {
		return err
	}
	file = shellWord(file)
	a.term.hint("sign a certificate for this code with the CA's key:")
	a.term.hint(`  openssl req -new -newkey rsa:2048 -nodes -keyout /dev/null -subj "/CN=%s" | openssl x509 -req -CA %s -CAkey CA-KEY -set_serial 1 -days 1 -out proof.pem`, code, file)
	a.term.hint("then complete it: farport ca add %s --proof proof.pem", file)
	return nil
}
