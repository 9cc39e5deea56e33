from airepair_bias import Bias

from airepair.testing.conformance import MethodConformance


class TestBias(MethodConformance): method = Bias  # fmt: skip  # noqa: E701
