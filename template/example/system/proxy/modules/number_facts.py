"""A proxy for an API over HTTP: the class describes the requests, and lllm sends them."""

from lllm import BaseProxy, ProxyRegistrator
from lllm.proxies import Header

from system.proxy import stand_in


@ProxyRegistrator(path="numbers", name="Number facts", description="What is known of a whole number.")
class NumberFacts(BaseProxy):
    base_url = "https://numbers.example.com/v1"
    auth = Header("X-Api-Key", env="NUMBERS_KEY", optional=True)  # a name: the key is in .env, and in no log

    offline = False  # lllm.toml sets it: [proxy_options.numbers] offline = true

    @BaseProxy.endpoint(
        category="facts",
        endpoint="numbers/{number}",
        params={"number": {"example": 391, "minimum": 2, "maximum": stand_in.LARGEST}},
        response={"number": 391, "factors": [17, 23]},
    )
    def factors(self, number: int):
        """The prime factors of a number.

        Args:
            number: a whole number above 1.
        """
        if self.offline:  # runs before the request is sent, to change what is sent
            self.base_url = stand_in.url()
