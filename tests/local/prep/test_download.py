"""One file over HTTP from a server that misbehaves."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pytest

from desed_task.errors import InputError
from local.command import StoppedError
from local.prep import download as module
from local.prep.download import BLOCK_BYTES, Policy, Progress, Remote, download
from local.prep.replies import retry_after_s

from .http_server import Fault, Server

BODY = np.random.default_rng(0).bytes(4 * BLOCK_BYTES + 12345)
MD5 = f"md5:{hashlib.md5(BODY).hexdigest()}"
FAST = Policy(tries=4, first_wait_s=0.001, longest_wait_s=0.01, timeout_s=(5.0, 5.0))
