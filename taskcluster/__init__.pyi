from .data.batches import TokenPlaces as TokenPlaces
from .library.cluster_scores import ClusterScores as ClusterScores
from .library.loaded_states import load_states as load_states
from .library.observing import observe as observe
from .library.patch_effects import PatchEffects as PatchEffects
from .library.prompt_observation import PromptObservation as PromptObservation
from .measures.clusterers.clusterer import Clusterer as Clusterer
from .measures.clusterers.clusterer import Clusters as Clusters
from .measures.clusterers.kmeans import KMeans as KMeans
from .measures.clustering import Clustering as Clustering
from .measures.clustering import clusters as clusters
from .measures.measure import Control as Control
from .measures.measure import Measure as Measure
from .measures.observation import Observation as Observation
from .metrics import Metric as Metric
from .models.hidden_states import check as check
from .objectives.objective import Objective as Objective
from .results import results as results
from .results.intervals import Interval as Interval
from .results.intervals import interval as interval
from .runs.folder import RunFolder as RunFolder
from .tasks.family import Task as Task
from .tasks.family import TaskFamily as TaskFamily
from .training.loading import LoadedRun as LoadedRun
from .training.loading import load_run as load_run
from .validation import UserError as UserError

__version__: str
