"""A teacher: a trained network whose probabilities another network learns in place of labels."""

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from keras_ddnn.config.training import DDNNConfig
from keras_ddnn.data.bank import CLOUD
from keras_ddnn.data.splits import Split
from keras_ddnn.files.checks import expect, require_count, require_positive
from keras_ddnn.files.notices import notice
from keras_ddnn.networks.architectures.modern_layers import Gelu
from keras_ddnn.networks.cascade import Cascade
from keras_ddnn.networks.compose import chain
from keras_ddnn.tasks.prices import PricedClasses
from keras_ddnn.training.batches import steps_per_epoch
from keras_ddnn.training.joint import joint_batches
from keras_ddnn.training.recipe.lessons import Lessons

NO_FOLDS = (
    "labels of folds need networks that know nothing of the fold; received a network with a "
    "teacher that has seen it: pass labels='augmented' or 'final_epoch'"
)


@dataclass(frozen=True, eq=False)
class Teacher:
    """A trained network that another network learns from.

    The target of each sample is softmax(teacher's logits / temperature) in place of its label, for
    all exits; `label_smoothing` of the recipe smooths it, too. The teacher sees the same augmented
    view as the network that learns. It answers for the first `passes` epochs; their batches are
    then repeated, views included, so that it costs `passes` passes however long the training is.

    Sources: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015; Beyer et al.,
    "Knowledge Distillation: A Good Teacher Is Patient and Consistent", 2022.

    Attributes:
        network: A trained cascade, of which the last tier teaches, or a functional Keras model of
            class scores (n, num_classes), such as an `ensemble`, of the same classes in the same
            order. Train it without smoothed labels: they hide what the other classes are worth.
        temperature: Above 1 the targets are softer than the teacher's probabilities. So are those
            that the network comes to say: it ranks samples as well, but is less sure than it could
            be. With 1 it comes to say what the teacher says.
        passes: Epochs whose batches it answers. Its answers take 2 bytes a pass, sample and class.

    Raises:
        ValueError: If the temperature or the passes are out of range, or the network is none of
            class scores.
    """

    network: Cascade | keras.Model
    temperature: float = 3.0
    passes: int = 20

    def __post_init__(self) -> None:
        require_positive(temperature=self.temperature)
        require_count(passes=self.passes)
        if isinstance(self.network, Cascade):
            return
        what, known = type(self.network).__name__, isinstance(self.network, keras.Model)
        if (count := len(getattr(self.network, "outputs", None) or ())) > 1:
            what, known = f"a model of {count} outputs", False
        wanted = "a Cascade, such as fitted.cascade, or a Keras model of one output"
        expect(known, "teacher", wanted, what)
        object.__setattr__(self, "network", chain({CLOUD: self.network}))

    @classmethod
    def of(cls, teacher: "Teacher | Cascade | keras.Model | None") -> "Teacher | None":
        """Return a teacher itself, or one of a network, or None."""
        return teacher if teacher is None or isinstance(teacher, cls) else cls(teacher)

    def require_fits(self, network: Cascade | None, train: Split) -> None:
        """Raise ValueError unless it can teach a network on such data.

        Args:
            network: Which is to learn; None for the network of the paper.
            train: Training data, as it reads them.
        """
        self.network.require_started()
        if network is not None and isinstance(network.task, PricedClasses):
            wanted = "1.0 where mistakes have prices, as answers follow from the probabilities"
            expect(self.temperature == 1, "temperature of a teacher", wanted, self.temperature)
        for who in (self.network, network):
            fits = who is None or "probabilities" in who.task.gives
            expect(fits, "teacher", "networks of classes", who and f"the task {who.task.name!r}")
        *_, last = self.network.model.output.values()
        theirs = f"{self.network.reads.shape} → {last.shape[-1]} classes"
        wanted = f"{tuple(train.images.shape[1:])} → {len(train.classes)} classes"
        expect(theirs == wanted, "teacher", f"a network of the data, {wanted}", theirs)
        dtype = self.network.reads.dtype
        fits = np.can_cast(train.images.dtype, dtype)
        expect(fits, "teacher", f"one that reads {train.images.dtype}, as the data are", dtype)

    def lessons(self, train: Split, config: DDNNConfig) -> Lessons:
        """Return what it answers to the first batches of a training on these data.

        How often that is the label is said in one line.

        Raises:
            ValueError: If it answers numbers that are not finite.
        """
        steps = steps_per_epoch(len(train), config.batch_size)
        count = min(self.passes, config.epochs) * steps
        notice(f"the teacher answers {count} batches before the training")
        batches = joint_batches(train, config, outputs=(CLOUD,)).take(count)
        model = self.network.copy().model
        for layer in model.layers:
            if isinstance(layer, Gelu):  # half of its time in bfloat16
                layer.always_kernel = True

        @tf.function(autograph=False, reduce_retracing=True)
        def answer(images: tf.Tensor) -> tf.Tensor:
            *_, logits = model(images, training=False).values()
            # Probabilities stay what they are, and no logit is too large for 16 bits.
            logits -= tf.reduce_max(logits, axis=1, keepdims=True)
            return tf.cast(logits, tf.float16)

        said, right = [], []
        for images, labels, *_ in batches:
            said.append(answer(images).numpy())
            right.append(said[-1].argmax(axis=1) == labels[CLOUD].numpy())
        logits = np.stack(said)
        expect(not np.isnan(logits).any(), "teacher", "finite logits", "others")
        notice(f"the teacher gives the label of {np.mean(right):.1%} of what it has seen")
        return Lessons(logits, self.temperature)
