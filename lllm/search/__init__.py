"""Finds things by what they do: tools, and the endpoints of proxies. Pure, and without any package.

Read in this order: words, synonyms, query, asked, index.
"""

from lllm.search.index import Described as Described
from lllm.search.index import Index as Index
