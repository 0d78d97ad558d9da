from .measures.clusterers.clusterer import Clusterer as Clusterer
from .measures.clusterers.kmeans import KMeans as KMeans
from .measures.measure import Control as Control
from .measures.measure import Measure as Measure
from .measures.observation import Observation as Observation
from .measures.observation import observe as observe
from .metrics import Metric as Metric
from .runs.folder import RunFolder as RunFolder
from .tasks.family import Task as Task
from .tasks.family import TaskFamily as TaskFamily
from .training.loading import LoadedRun as LoadedRun
from .training.loading import load_run as load_run
from .validation import UserError as UserError

__version__: str
