"""Proxies: APIs and families of functions, described once, for every agent and for the system's own code.

Read in this order: base, endpoint, parameters; for requests encoding, body, request, credentials, exchange, answer, client, and
then pagination, cache, cutoff; last runtime.
"""

from lllm.proxies.base import BaseProxy as BaseProxy
from lllm.proxies.base import ProxyRegistrator as ProxyRegistrator
from lllm.proxies.credentials import Auth as Auth
from lllm.proxies.credentials import Basic as Basic
from lllm.proxies.credentials import Bearer as Bearer
from lllm.proxies.credentials import Cookie as Cookie
from lllm.proxies.credentials import Header as Header
from lllm.proxies.credentials import Query as Query
from lllm.proxies.endpoint import Endpoint as Endpoint
from lllm.proxies.parameters import Parameter as Parameter
from lllm.proxies.runtime import Proxy as Proxy
