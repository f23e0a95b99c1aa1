# A step of a Makefile: a label for every text, and only for those that have changed.
#
#   paw-mlx pull examples/email-triage/program.paw --as email-triage
#   make -f labels.mk              # or, in your own Makefile: include labels.mk
#   make -f labels.mk -B           # all of them again, after a new version of the function
#
# inbox/a.txt gets inbox/a.label, and labels.tsv has them all. A label appears as a whole or not at
# all: where the function fails, the old one stays and make stops. Texts whose names have blanks,
# quotes or the like, which make and its shell would take for something else, are left out, and said.

FUNCTION ?= email-triage
INBOX ?= inbox
PLAIN := ^$(INBOX)/[[:alnum:]._/-]*\.txt$$
TEXTS := $(shell find $(INBOX) -name '*.txt' | grep '$(PLAIN)' | sort)

labels.tsv: $(TEXTS:.txt=.label)
	@find $(INBOX) -name '*.txt' | grep -v '$(PLAIN)' | sed 's/^/left out: /' >&2
	for label in $^; do printf '%s\t%s\n' "$${label%.label}.txt" "$$(cat "$$label")"; done > $@.part
	mv $@.part $@

%.label: %.txt
	paw-mlx run $(FUNCTION) --file $< --overflow head > $@.part
	mv $@.part $@
