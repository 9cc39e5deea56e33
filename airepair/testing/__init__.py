"""Shipped to third parties: the conformance suite and the toy subject it runs on."""
