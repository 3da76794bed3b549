"""Every setting: its name, type, default, bounds and meaning. The documentation and the chart's schema are made of it.

Units are in the names. Nothing here reads the environment or a file: that is `worker.settings`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from worker.settings_types import Bundles, Endpoint, Names, Ocr, Topic, addressed


def installed_models() -> Path:
    """The folder of bundles that came with this installation."""
    return Path(__file__).resolve().parent.parent / "models"


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Kafka(_Group):
    """The brokers, the topics, and how the worker delivers."""

    bootstrap_servers: Names = Field(
        default=("localhost:9092",), min_length=1, description="Brokers to ask first, host:port."
    )
    group_id: str = Field(default="adscore", min_length=1, description="Consumer group of the workers.")
    input_topic: Topic = Field(default="creatives", description="Where creatives are submitted and withdrawn.")
    output_topic: Topic = Field(default="creatives.enriched", description="Where enriched events are published.")
    dlq_topic: Topic = Field(default="creatives.dlq", description="Where records that can't be scored go.")
    shadow_topic: Topic = Field(default="creatives.shadow", description="Where the candidate models' events go.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How connections to the brokers are protected."
    )
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="", description="How the worker proves who it is; needed where security_protocol begins with SASL."
    )
    sasl_username: str = Field(default="", description="User name for SASL.")
    sasl_password: SecretStr = Field(default=SecretStr(""), description="Password for SASL; give it as a file.")
    ssl_cafile: str = Field(default="", description="PEM file of the authorities that sign the brokers' certificates.")
    delivery: Literal["at-least-once", "exactly-once"] = Field(
        default="at-least-once",
        description="Whether a crash may repeat outputs, or each step is one Kafka transaction.",
    )
    transactional_id_prefix: str = Field(
        default="",
        description="Transactional ids begin with it, so that one prefixed ACL covers them; empty: the group id.",
    )
    session_timeout_ms: int = Field(
        default=10_000, ge=1_000, le=1_800_000, description="A silent worker is replaced after it."
    )
    transaction_timeout_ms: int = Field(
        default=20_000, ge=1_000, le=900_000, description="The broker ends an open transaction after it."
    )

    @model_validator(mode="after")
    def _topics_differ(self) -> Kafka:
        names = [self.input_topic, self.output_topic, self.dlq_topic, self.shadow_topic]
        if len(set(names)) < len(names):
            raise ValueError(f"input, output, dlq and shadow are four topics, these repeat: {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _sasl_is_whole(self) -> Kafka:
        if self.security_protocol.startswith("SASL"):
            given = {"sasl_mechanism": self.sasl_mechanism, "sasl_username": self.sasl_username}
            given["sasl_password"] = self.sasl_password.get_secret_value()
            missing = [name for name, value in given.items() if not value]
            if missing:
                raise ValueError(f"security_protocol {self.security_protocol} also needs {', '.join(missing)}")
        return self


class Redis(_Group):
    """The cache of scores, which also remembers revisions. Never needed: without it, work is only repeated."""

    url: SecretStr = Field(
        default=SecretStr(""), description="redis://, rediss:// or unix:// URL; empty: a cache inside the process."
    )
    ttl_seconds: int = Field(default=2_592_000, ge=1, le=315_360_000, description="How long scores stay in the cache.")
    ttl_jitter: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of ttl_seconds by which it varies, so that entries don't expire together.",
    )
    timeout_ms: int = Field(default=50, ge=1, le=10_000, description="Longest wait for one answer of Redis.")
    breaker_seconds: float = Field(
        default=5.0, ge=0.1, le=3_600, description="How long Redis is left alone after it failed repeatedly."
    )
    revision_days: float = Field(
        default=30.0, gt=0, le=3_650, description="How long Redis remembers a creative's newest revision."
    )
    revision_max: int = Field(
        default=1_000_000, ge=1, le=100_000_000, description="Creatives whose revisions the process itself remembers."
    )

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: SecretStr) -> SecretStr:
        text = url.get_secret_value()
        if text and not text.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return url


class Models(_Group):
    """Which bundles serve which head: `name` (its newest version) or `name/version`; an empty list turns a head off."""

    dir: Path = Field(
        default_factory=installed_models, description="Folder of bundles; default: the installation's own."
    )
    public_key: str = Field(
        default="",
        description="PEM file of an Ed25519 public key: a bundle that isn't signed by it isn't loaded. "
        "Empty: signatures aren't asked for.",
    )
    attractiveness: Bundles = Field(default=("dbafn",), description="Bundles of the attractiveness head.")
    sentiment: Bundles = Field(default=("fgmfn",), description="Bundles of the sentiment head; their parts are merged.")
    ctr: Bundles = Field(default=("adfusion",), description="Bundles of the CTR head.")

    @model_validator(mode="after")
    def _some_head(self) -> Models:
        if not (self.attractiveness or self.sentiment or self.ctr):
            raise ValueError("attractiveness, sentiment and ctr are all empty: name at least one bundle")
        return self


class Shadow(_Group):
    """Candidate bundles that score a copy of the traffic; empty: none."""

    attractiveness: Bundles = Field(default=(), description="Candidate bundles of the attractiveness head.")
    sentiment: Bundles = Field(default=(), description="Candidate bundles of the sentiment head.")
    ctr: Bundles = Field(default=(), description="Candidate bundles of the CTR head.")


class Batch(_Group):
    """How creatives are gathered for the engine: whichever of the two comes first closes a batch."""

    max_size: int = Field(default=16, ge=1, le=1_024, description="Creatives in one batch.")
    max_delay_ms: float = Field(
        default=20.0, ge=0, le=60_000, description="How long the first of a batch waits for others."
    )


class Pipeline(_Group):
    """How much work is in flight."""

    max_inflight: int = Field(
        default=64, ge=1, le=100_000, description="Records received and not yet finished; beyond, the consumer pauses."
    )
    engine_threads: int = Field(
        default=0, ge=0, le=1_024, description="Threads inside the CPU engine; 0: one per core."
    )
    engine_timeout_seconds: float = Field(
        default=60.0,
        ge=1,
        le=3_600,
        description="An engine that hasn't answered a batch by then hangs: the worker ends, and commits nothing of it.",
    )
    cache_memory_items: int = Field(
        default=10_000,
        ge=1,
        le=10_000_000,
        description="Entries of the in-process cache, used where redis.url is empty.",
    )


class Decode(_Group):
    """The processes that decode images."""

    workers: int = Field(default=0, ge=0, le=256, description="Decoder processes; 0: one per core.")


class OcrSettings(_Group):
    """Reading the text in images, where the event doesn't bring it."""

    engine: Literal["pytesseract", "tesserocr", "rapidocr"] = Field(
        default="pytesseract",
        description="Which OCR reads: Tesseract as a program; as a library (adscore[tesserocr]); PP-OCR's models "
        "(adscore[rapidocr]).",
    )
    workers: int = Field(default=0, ge=0, le=256, description="OCR processes; 0: one per core.")
    languages: Ocr = Field(
        default="eng", description="Tesseract's names of languages, joined by +; rapidocr reads all of its own at once."
    )
    timeout_seconds: float = Field(
        default=10.0, gt=0, le=600, description="After it the event is published without its text."
    )


class Fetch(_Group):
    """Where images may come from."""

    allowed_hosts: Names = Field(
        default=(), description="host, host:port, .domain, *, http://…, an IP or CIDR, s3://…, gs://…; empty: nothing."
    )
    max_bytes: int = Field(
        default=8_388_608, ge=1, le=67_108_864, description="Largest image, in bytes (of data:, decoded)."
    )
    timeout_seconds: float = Field(default=10.0, gt=0, le=300, description="Deadline of one record's whole fetch.")
    held_bytes: int = Field(
        default=67_108_864,
        ge=0,
        le=1_099_511_627_776,
        description="Downloaded images that are kept, so that scoring a creative again needs no second download; "
        "0: none.",
    )
    held_dir: str = Field(
        default="", description="Folder that keeps them for the next process, and for other workers; empty: memory."
    )
    workers: int = Field(
        default=64,
        ge=1,
        le=1_024,
        description="Fetches at the same time; with as many as pipeline.max_inflight a slow host holds nobody else up.",
    )
    file_roots: Names = Field(default=(), description="Folders whose files file: URLs may name; empty: none.")
    s3_endpoint: Endpoint = Field(
        default="", description="Where s3: objects are read, like https://minio.example:9000; empty: AWS."
    )
    s3_region: str = Field(
        default="", pattern=r"^[a-z0-9-]{0,64}$", description="Region of the s3: buckets; empty: AWS_REGION, us-east-1."
    )
    s3_credentials: Literal["cloud", "anonymous"] = Field(
        default="cloud", description="cloud: AWS's own ways (AWS_… variables, the pod's or machine's role)."
    )
    gs_endpoint: Endpoint = Field(default="", description="Where gs: objects are read; empty: Google Cloud.")
    gs_credentials: Literal["cloud", "anonymous"] = Field(
        default="cloud", description="cloud: Google's own ways (GOOGLE_APPLICATION_CREDENTIALS, the machine's role)."
    )

    @field_validator("allowed_hosts")
    @classmethod
    def _readable(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        from worker.intake.hosts import AllowList  # only where hosts are listed: most verbs fetch nothing

        if entries:
            AllowList(entries)
        return entries


class Event(_Group):
    """The published events."""

    source: str = Field(default="adscore", min_length=1, max_length=512, pattern=r"^[!-~]+$", description="ce_source.")


class Http(_Group):
    """The port of /livez, /readyz and /metrics."""

    host: str = Field(default="0.0.0.0", description="Address to listen on.")  # noqa: S104  a pod's probes come from outside
    port: int = Field(default=8080, ge=0, le=65_535, description="Port; 0 takes a free one, which a log line names.")


class Log(_Group):
    """Logs, on standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value),
    ] = Field(default="info", description="The least level that is written.")
    format: Literal["auto", "json", "console"] = Field(
        default="auto", description="json: one object per line; console: for people; auto: console on a terminal."
    )


class Served(_Group):
    """A look at what ad servers hold: a sample of the output topic, for the freshness metrics."""

    sample_seconds: float = Field(
        default=60.0, ge=0, le=86_400, description="How often twenty published events are looked at; 0: never."
    )


class TensorRt(_Group):
    """TensorRT, where it serves: which of its two modules, and how engines are built."""

    module: Literal["auto", "tensorrt", "tensorrt_rtx"] = Field(
        default="auto", description="auto: tensorrt (data-centre GPUs) where it is installed, else tensorrt_rtx."
    )
    missing_engine: Literal["build", "refuse"] = Field(
        default="build",
        description="An engine that isn't there yet: build it at the start (minutes), or refuse it; with backend auto "
        "a refused one is served by ONNX Runtime.",
    )
    workspace_mib: int = Field(
        default=0, ge=0, le=1_048_576, description="Most scratch memory while building; 0: as TensorRT likes."
    )
    versions: Literal["same", "later"] = Field(
        default="same", description="same: engines for this version; later: for later minor versions too; slower."
    )
    hardware: Literal["same", "ampere+"] = Field(
        default="same", description="same: engines for one compute capability; ampere+: for Ampere and later; slower."
    )


class Tracing(_Group):
    """Traces by OpenTelemetry; needs the extra `adscore[tracing]`, which the image has."""

    endpoint: Annotated[str, AfterValidator(addressed)] = Field(
        default="",
        pattern=r"^(https?://[^\s/?#@]+(/[^\s?#@]*)?)?$",
        description="Where traces go (OTLP over HTTP), like http://collector:4318/v1/traces; empty: tracing is off.",
    )
    headers: SecretStr = Field(
        default=SecretStr(""),
        description="Headers for the collector, like Authorization=Bearer …; several with commas. Give it as a file.",
    )
    sample_ratio: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of the traces that begin at the worker; a record that brings a decision keeps it.",
    )

    @field_validator("headers")
    @classmethod
    def _pairs(cls, headers: SecretStr) -> SecretStr:
        for pair in filter(None, headers.get_secret_value().split(",")):
            name, separator, value = pair.partition("=")
            if not (separator and name.strip() and value.isprintable()):
                raise ValueError("must be NAME=VALUE, several with commas between them")
        return headers


class Drain(_Group):
    """Stopping."""

    timeout_seconds: float = Field(
        default=20.0, gt=0, le=3_600, description="After SIGTERM the worker has ended within it."
    )


class Dlq(_Group):
    """Dead letters."""

    max_consecutive: int = Field(
        default=0, ge=0, description="Dead letters in a row that stop the worker with exit 1; 0: no limit."
    )


class Settings(_Group):
    """Everything that can be set."""

    backend: Literal["auto", "tensorrt", "onnxruntime", "openvino"] = Field(
        default="auto", description="What runs the models."
    )
    worker_id: str = Field(
        default="",
        max_length=128,
        pattern=r"^[!-~]*$",
        description="Names this worker; empty: host name and process id.",
    )
    kafka: Kafka = Kafka()
    redis: Redis = Redis()
    models: Models = Models()
    shadow: Shadow = Shadow()
    batch: Batch = Batch()
    pipeline: Pipeline = Pipeline()
    decode: Decode = Decode()
    ocr: OcrSettings = OcrSettings()
    fetch: Fetch = Fetch()
    event: Event = Event()
    http: Http = Http()
    log: Log = Log()
    served: Served = Served()
    tensorrt: TensorRt = TensorRt()
    tracing: Tracing = Tracing()
    drain: Drain = Drain()
    dlq: Dlq = Dlq()
